"""A synthetic world of drawn animals with known parts.

Nothing about real photographs is known exactly; here everything is: where each part lies, whether
it is visible, which part hangs on which, and which attributes go together. `draw` makes the
pictures.

How a creature comes about:

1. Every picture has a random stream of its own, from ``(seed, number of the picture)``. Its pose,
   shape, colours, clutter and occluders use a fixed number of draws, so that picture ``i`` is the
   same however many are drawn, and that changing an attribute changes nothing but its own part.
2. A skeleton is posed: a bent torso (chest, rump), a neck and a head that turns by itself, legs
   with knees, a tail, a wing. It faces either way, is tilted and scaled, and is laid into the
   picture. Flat shapes (polygons) are hung on it.
3. The shapes are drawn from back to front as *numbers* on one supersampled canvas. A palette turns
   it into colours; what stands on top at a part's position says whether the part is visible.
4. The background, light and noise are added.

One creature per picture. The family follows from the attributes: a ``beast`` has neither horns nor
wings, a ``dragon`` has both, and a ``guardian`` has one of the two, which makes two distinct ways
to be a guardian.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from explgraph.brief import counted, few
from explgraph.creatures.shapes import Draws, Shape, creature, rgb, surroundings, vector
from explgraph.errors import ExplgraphError

__all__ = [
    "ATTRIBUTES",
    "FAMILIES",
    "LAYERS",
    "MEAN",
    "OUTPUTS",
    "PARTS",
    "RELATIONS",
    "SIZE",
    "STD",
    "Creatures",
    "draw",
]

Array = NDArray[np.float64]

SIZE = 112
"""Height and width (px) of the pictures that the shipped network was trained on."""
MEAN = (0.5, 0.5, 0.5)
"""What normalised pictures are centred by: each channel's mean, values in [0, 1]."""
STD = (0.25, 0.25, 0.25)
"""What normalised pictures are divided by, per channel, values in [0, 1]."""

PARTS = (
    "head",
    "eye",
    "snout",
    "ear",
    "horn",
    "chest",
    "rump",
    "wing",
    "front_foot",
    "hind_foot",
    "tail_tip",
)
"""The planted parts. ``horn`` and ``wing`` are absent from creatures without that attribute."""

RELATIONS = {
    "eye": "head",
    "snout": "head",
    "ear": "head",
    "horn": "head",
    "head": "chest",
    "wing": "chest",
    "front_foot": "chest",
    "hind_foot": "rump",
    "tail_tip": "rump",
}
"""Which part hangs on which, child -> parent. The torso's two ends, chest and rump, hang on
nothing: they swing opposite ways about its middle."""

ATTRIBUTES = {
    "horns": "horn",
    "wings": "wing",
    "beak": "snout",
    "round_ears": "ear",
    "yellow_eyes": "eye",
    "bib": "chest",
    "striped": "rump",
    "boots": "front_foot",
    "webbed": "hind_foot",
    "tuft": "tail_tip",
}
"""The attributes, each with the one part that shows it."""

FAMILIES = ("beast", "guardian", "dragon")
"""The class labels: no horns and no wings; one of the two; both."""

OUTPUTS = FAMILIES + tuple(ATTRIBUTES)
"""The network's outputs: a logit for each family (softmax), then for each attribute (sigmoid)."""

LAYERS = ("stage4", "stage3", "stage2")
"""The network's layers to mine, the top one first."""

_SUPERSAMPLING = 3
_CLUTTER = 7
_OCCLUDERS = 2
_DRAWS = 320  # uniform draws per picture, more than _compose uses

# What may lie on top of a part at its position without hiding it, apart from the part's own shapes.
_TOLERATED = {
    "head": ("eye", "snout", "ear", "horn", "neck"),
    "chest": ("torso", "neck", "front_leg"),
    "rump": ("torso", "hind_leg", "tail"),
}

_OUTLINELESS = ("chest", "rump")  # bib and stripes lie there, if at all


@dataclass(frozen=True, eq=False, repr=False)  # arrays neither compare nor print well
class Creatures:
    """Drawn animals and everything there is to know about them.

    Attributes
    ----------
    images : (N, H, W, 3) uint8
        Pictures, RGB.
    parts : dict of str to (N, 2) float32
        Position [x, y] (px, pixel centres at integer + 0.5) of every part, NaN where it is absent.
        A part that is occluded or out of the frame keeps its position.
    visible : dict of str to (N,) bool
        Whether the part is there, in the frame, and nothing unrelated is drawn on top of its
        position.
    centre : (N, 2) float32
        Middle of the torso [x, y] (px).
    attributes : dict of str to (N,) bool
        Keys as in :data:`ATTRIBUTES`.
    labels : (N,) int64
        Family, an index of `label_names`.
    label_names : tuple of str
        Names of the families.
    relations : dict of str to str
        The kinematic tree, child -> parent.
    on_top : (N, H, W) uint8
        Whose shape is on top at each pixel's centre: ``1 + PARTS.index(part)``, or 0 where it is
        none of a part's; `mask` reads it.
    """

    images: NDArray[np.uint8]
    parts: dict[str, NDArray[np.float32]]
    visible: dict[str, NDArray[np.bool_]]
    centre: NDArray[np.float32]
    attributes: dict[str, NDArray[np.bool_]]
    labels: NDArray[np.int64]
    label_names: tuple[str, ...]
    relations: dict[str, str]
    on_top: NDArray[np.uint8]

    def __repr__(self) -> str:
        height, width = self.images.shape[1:3]
        return (
            f"Creatures: {counted(len(self.images), 'picture')} of {width} x {height} px; "
            f"{counted(len(self.parts), 'part')}, families {few(self.label_names, 5)}"
        )

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.images)

    def tensor(self) -> Tensor:
        """Return the pictures as the network takes them: (N, 3, H, W) float32, normalised."""
        pixels = torch.from_numpy(self.images).permute(0, 3, 1, 2).contiguous().float() / 255
        mean, std = (
            torch.tensor(values, dtype=torch.float32).view(3, 1, 1) for values in (MEAN, STD)
        )
        return (pixels - mean) / std

    def mask(self, part: str) -> NDArray[np.bool_]:
        """Return which pixels show a part: (N, H, W) bool.

        What other shapes hide doesn't count; the eye, which lies within the head, counts as head,
        too.

        Parameters
        ----------
        part : str
            One of :data:`PARTS`, but for ``chest`` and ``rump``: these are places on the torso,
            which have no outline of their own.

        Raises
        ------
        ExplgraphError
            If there is no such part, or it has no outline.
        """
        if part not in PARTS or part in _OUTLINELESS:
            shaped = ", ".join(name for name in PARTS if name not in _OUTLINELESS)
            raise ExplgraphError(f"part is {part!r}; expected a part with an outline: {shaped}")
        mask: NDArray[np.bool_] = self.on_top == 1 + PARTS.index(part)
        return mask | (self.on_top == 1 + PARTS.index("eye")) if part == "head" else mask

    def targets(self) -> Tensor:
        """Return the truth of :data:`OUTPUTS`: (N, 13) float32, family one-hot, attributes."""
        families = np.eye(len(self.label_names))[self.labels]
        attributes = np.stack(list(self.attributes.values()), axis=1)
        return torch.from_numpy(np.concatenate([families, attributes], axis=1)).float()


def draw(
    n: int,
    *,
    seed: int = 0,
    size: int = SIZE,
    cooccurrence: Mapping[tuple[str, str], float] | None = None,
    fixed: Mapping[str, bool] | None = None,
) -> Creatures:
    """Draw creatures.

    Parameters
    ----------
    n : int
        Number of pictures.
    seed : int
        Picture ``i`` depends on ``seed``, ``i`` and the other options, not on `n`.
    size : int
        Height and width of the pictures (px), at least 32.
    cooccurrence : mapping of (str, str) to float
        ``{("horns", "boots"): 0.95}`` makes boots and horns agree (both or neither) in 95 % of the
        creatures. Attributes that are not the second of a pair are present in half of the
        creatures, independently of each other.
    fixed : mapping of str to bool
        Attributes that every creature has (True) or lacks (False). Everything else about the
        pictures stays as it is, apart from the pixels of that attribute's part.

    Returns
    -------
    Creatures
        Pictures and their truth.

    Raises
    ------
    ExplgraphError
        If a number is out of range, an attribute does not exist, or the pairs of `cooccurrence`
        contradict each other.
    """
    if n < 0 or seed < 0:
        raise ExplgraphError(f"n and seed must not be negative, found n={n}, seed={seed}")
    if size < 32:
        raise ExplgraphError(f"size must be at least 32 px for parts to be seen, found {size}")
    plan = _plan_attributes(dict(cooccurrence or {}), dict(fixed or {}))
    chunks = [
        _draw_chunk(range(start, min(start + 128, n)), seed, size, plan)
        for start in range(0, max(n, 1), 128)
    ]
    parts = {part: np.concatenate([chunk.parts[part] for chunk in chunks]) for part in PARTS}
    return Creatures(
        images=np.concatenate([chunk.images for chunk in chunks]),
        parts=parts,
        visible={part: np.concatenate([chunk.visible[part] for chunk in chunks]) for part in PARTS},
        centre=np.concatenate([chunk.centre for chunk in chunks]),
        attributes={
            name: np.concatenate([chunk.attributes[name] for chunk in chunks])
            for name in ATTRIBUTES
        },
        labels=np.concatenate([chunk.labels for chunk in chunks]),
        label_names=FAMILIES,
        relations=dict(RELATIONS),
        on_top=np.concatenate([chunk.on_top for chunk in chunks]),
    )


# --------------------------------------------------------------------------------------- attributes


def _plan_attributes(
    cooccurrence: dict[tuple[str, str], float], fixed: dict[str, bool]
) -> list[tuple[str, str | None, float]]:
    """Put the attributes in an order in which each can be drawn: (name, copied from, P(equal))."""
    for name in [*fixed, *(name for pair in cooccurrence for name in pair)]:
        if name not in ATTRIBUTES:
            raise ExplgraphError(f"no attribute {name!r}; there are {', '.join(ATTRIBUTES)}")
    source: dict[str, tuple[str, float]] = {}
    for (first, second), agreement in cooccurrence.items():
        if not 0 <= agreement <= 1:
            raise ExplgraphError(
                f"cooccurrence of {first!r} and {second!r} must be a probability in [0, 1], "
                f"found {agreement}"
            )
        if second in source or second in fixed:
            raise ExplgraphError(
                f"cooccurrence sets {second!r} although it is set already; "
                "name each attribute as the second of one pair only, and not in fixed"
            )
        source[second] = (first, agreement)
    plan: list[tuple[str, str | None, float]] = [
        (name, None, float(fixed.get(name, 0.5))) for name in ATTRIBUTES if name not in source
    ]
    while source:
        done = {name for name, _, _ in plan}
        ready = [name for name, (first, _) in source.items() if first in done]
        if not ready:
            raise ExplgraphError(
                f"cooccurrence runs in a circle through {', '.join(source)}; leave one pair out"
            )
        plan += [(name, *source.pop(name)) for name in ready]
    return plan


def _draw_attributes(
    uniform: Array, plan: list[tuple[str, str | None, float]]
) -> dict[str, NDArray[np.bool_]]:
    """Attributes (N,) from uniform draws (N, A), each using its own column."""
    column = {name: uniform[:, k] for k, name in enumerate(ATTRIBUTES)}
    drawn: dict[str, NDArray[np.bool_]] = {}
    for name, first, chance in plan:
        hit = column[name] < chance
        drawn[name] = hit if first is None else hit == drawn[first]
    return {name: drawn[name] for name in ATTRIBUTES}


# ----------------------------------------------------------------------------------------- pictures


def _draw_chunk(
    numbers: range, seed: int, size: int, plan: list[tuple[str, str | None, float]]
) -> Creatures:
    """Draw the pictures of the given numbers."""
    streams = [np.random.default_rng((seed, number)) for number in numbers]
    table = np.array([stream.random(_DRAWS) for stream in streams]).reshape(-1, _DRAWS)
    has = _draw_attributes(table, plan)
    draws = Draws(table[:, len(ATTRIBUTES) :])
    shapes, parts, centre = creature(draws, has)

    # Face left or right, tilt, scale to fit, and lay the skeleton near the picture's middle, so
    # that knowing where the whole animal is says little about its parts. Absent parts count too:
    # an attribute must not move the creature.
    angle = np.deg2rad(draws(-38, 38))
    turn = np.stack(
        [vector(np.cos(angle), -np.sin(angle)), vector(np.sin(angle), np.cos(angle))], 1
    )
    turn = turn * np.where(draws(0, 1) < 0.5, -1, 1)[:, None, None] ** np.array([1, 0])
    turn = np.swapaxes(turn, 1, 2)
    skeleton = np.stack([*parts.values()], axis=1) @ turn
    low, high = skeleton.min(axis=1), skeleton.max(axis=1)
    scale = np.minimum(draws(0.95, 1.25), 92 / (high - low).max(axis=1))
    middle = 0.6 * (low + high) / 2 + 0.4 * (centre[:, None] @ turn)[:, 0]
    shift = 56 + vector(draws(-8, 8), draws(-8, 8)) - middle * scale[:, None]

    def place(points: Array) -> Array:
        """Body frame (N, P, 2) to picture (px)."""
        placed: Array = (points @ turn * scale[:, None, None] + shift[:, None]) * (size / 112)
        return placed

    def loose(shape: Shape) -> Shape:
        """Bring a shape that is no part of the creature to the picture's size."""
        return Shape(shape.owner, shape.points * (size / 112), shape.colour, shape.shown)

    scene = [
        *map(loose, surroundings(draws, _CLUTTER, "clutter", 0.7)),
        *(Shape(s.owner, place(s.points), s.colour, s.shown) for s in shapes),
        *map(loose, surroundings(draws, _OCCLUDERS, "occluder", 0.4)),
    ]
    positions = {part: place(where[:, None])[:, 0] for part, where in parts.items()}
    images, top, centres = _paint(scene, _backgrounds(draws, streams, size), streams, positions)
    owner = [0, *(1 + PARTS.index(s.owner) if s.owner in PARTS else 0 for s in scene)]

    absent = {"horn": ~has["horns"], "wing": ~has["wings"]}
    visible: dict[str, NDArray[np.bool_]] = {}
    for part in PARTS:
        allowed = (part, *_TOLERATED.get(part, ()))
        fitting = np.array([False, *(shape.owner in allowed for shape in scene)])
        visible[part] = fitting[top[part]]
    for part, missing in absent.items():
        visible[part] = visible[part] & ~missing
        positions[part][missing] = np.nan
    return Creatures(
        images=images,
        parts={part: where.astype(np.float32) for part, where in positions.items()},
        visible=visible,
        centre=place(centre[:, None])[:, 0].astype(np.float32),
        attributes=has,
        labels=has["horns"].astype(np.int64) + has["wings"],
        label_names=FAMILIES,
        relations=dict(RELATIONS),
        on_top=np.array(owner, np.uint8)[centres],
    )


def _backgrounds(draws: Draws, streams: list[np.random.Generator], size: int) -> Array:
    """Smooth patches of colour (N, size, size, 3) in [0, 1]."""
    cells = 5
    base = rgb(draws(0, 1), draws(0.05, 0.6), draws(0.35, 0.95))
    rough = draws(0.1, 0.35)[:, None, None, None]
    patches = np.array([stream.random((cells, cells, 3)) for stream in streams])
    patches = base[:, None, None] + rough * (patches.reshape(-1, cells, cells, 3) - 0.5)
    # Cosine interpolation between the cells, as a matrix.
    at = np.linspace(0, cells - 1, size)[:, None] - np.arange(cells)
    blend = 0.5 + 0.5 * np.cos(np.pi * np.clip(at, -1, 1))
    mixed: Array = np.einsum("yi,nijc,xj->nyxc", blend, patches, blend, optimize=True)
    return mixed


def _paint(
    scene: list[Shape],
    background: Array,
    streams: list[np.random.Generator],
    positions: dict[str, Array],
) -> tuple[NDArray[np.uint8], dict[str, NDArray[np.int64]], NDArray[np.uint8]]:
    """Draw the scene from back to front.

    Returns
    -------
    images : (N, H, W, 3) uint8
        The pictures.
    top : dict of str to (N,) int64
        What is on top at each part's position: 0 is the background or outside of the frame,
        ``k + 1`` the scene's shape ``k``.
    centres : (N, H, W) uint8
        The same, at each pixel's centre.
    """
    size, zoom = background.shape[1], _SUPERSAMPLING
    images = np.empty(background.shape, np.uint8)
    centres = np.empty(background.shape[:3], np.uint8)
    top = {part: np.zeros(len(background), np.int64) for part in positions}
    # Pillow counts pixel centres at integers, hence the half.
    outlines = [shape.points * zoom - 0.5 for shape in scene]
    colours = (255 * np.stack([shape.colour for shape in scene], axis=1)).astype(np.uint8)
    solid = [0] + [255] * 255
    for i, stream in enumerate(streams):
        canvas = Image.new("L", (size * zoom, size * zoom))
        pen = ImageDraw.Draw(canvas)
        for k, shape in enumerate(scene):
            if shape.shown[i]:
                pen.polygon(outlines[k][i].ravel().tolist(), fill=k + 1)
        numbers = np.asarray(canvas)
        centres[i] = numbers[zoom // 2 :: zoom, zoom // 2 :: zoom]
        for part, where in positions.items():
            x, y = np.floor(where[i] * zoom).astype(int)
            if 0 <= x < size * zoom and 0 <= y < size * zoom:
                top[part][i] = numbers[y, x]
        cover = np.asarray(canvas.point(solid).reduce(zoom), np.float32)[..., None] / 255
        canvas.putpalette(bytes(3) + colours[i].tobytes())
        paint = np.asarray(canvas.convert("RGB").reduce(zoom), np.float32)
        picture = paint + (255 * (1 - cover)) * background[i].astype(np.float32)
        grain = stream.standard_normal((size, size, 1), dtype=np.float32)
        light = np.linspace(1.08, 0.88, size, dtype=np.float32)[:, None, None]
        images[i] = np.clip(picture * light + 5 * grain, 0, 255).astype(np.uint8)
    return images, top, centres
