"""A synthetic world of drawn animals with known parts, and a small network that has learnt it.

Nothing about real photographs is known exactly; here everything is: where each part lies, whether
it is visible, which part hangs on which, and which attributes go together. :func:`draw` makes the
pictures, :func:`network` the CNN (trained by ``benchmarks/train_creatures.py``) whose filters the
demo and the tests explain.

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
from importlib import resources
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from safetensors.torch import load
from torch import Tensor, nn

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
    "CreatureNet",
    "Creatures",
    "draw",
    "network",
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
    """

    images: NDArray[np.uint8]
    parts: dict[str, NDArray[np.float32]]
    visible: dict[str, NDArray[np.bool_]]
    centre: NDArray[np.float32]
    attributes: dict[str, NDArray[np.bool_]]
    labels: NDArray[np.int64]
    label_names: tuple[str, ...]
    relations: dict[str, str]

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


# ------------------------------------------------------------------------------------------- shapes


class _Draws:
    """Deals out the columns of a table of uniform draws (N, D), each one once."""

    def __init__(self, table: Array) -> None:
        self._table = table
        self._used = 0

    def __call__(self, low: float, high: float) -> Array:
        """Return the next column, scaled to [low, high): (N,)."""
        column: Array = self._table[:, self._used]
        self._used += 1
        return low + (high - low) * column


@dataclass(frozen=True)
class _Shape:
    """A polygon per picture, the part or limb it belongs to, its colour, and where it is drawn."""

    owner: str
    points: Array  # (N, P, 2) body or image coordinates
    colour: Array  # (N, 3) RGB in [0, 1]
    shown: NDArray[np.bool_]  # (N,)


def _vector(x: Array | float, y: Array | float) -> Array:
    """Stack to [x, y] in the last axis."""
    return np.stack(np.broadcast_arrays(x, y), axis=-1).astype(float)


def _direction(angle: Array) -> Array:
    """Turn angles in degrees (N,), counted from forward (+x) to up (-y), to unit vectors (N, 2)."""
    radians = np.deg2rad(angle)
    return _vector(np.cos(radians), -np.sin(radians))


def _tube(start: Array, control: Array, end: Array, radii: tuple[Any, Any, Any]) -> Array:
    """Outline (N, 20, 2) of a bent limb: a quadratic Bezier curve of varying radius, round ends."""
    t = np.linspace(0, 1, 7)[:, None]
    weights = np.concatenate([(1 - t) ** 2, 2 * t * (1 - t), t**2], axis=1)
    slopes = np.concatenate([-2 * (1 - t), 2 - 4 * t, 2 * t], axis=1)
    controls = np.stack([start, control, end], axis=1)
    spine, tangent = weights @ controls, slopes @ controls
    width = np.stack(np.broadcast_arrays(*(np.ones(len(start)) * r for r in radii)), 1) @ weights.T
    tangent = tangent / np.maximum(np.linalg.norm(tangent, axis=-1, keepdims=True), 1e-9)
    normal = tangent[..., ::-1] * (-1, 1)
    side = normal * width[..., None]

    def cap(at: int, turn: float) -> Array:
        """Three points around an end, from the one side to the other."""
        angle = np.deg2rad(np.array([45, 90, 135]))[:, None]
        arc = (
            turn * np.cos(angle) * normal[:, None, at] + turn * np.sin(angle) * tangent[:, None, at]
        )
        points: Array = spine[:, None, at] + arc * width[:, None, at, None]
        return points

    return np.concatenate([spine + side, cap(-1, 1), (spine - side)[:, ::-1], cap(0, -1)], axis=1)


def _disc(centre: Array, radius: Any) -> Array:
    """Outline (N, 16, 2) of a disc."""
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    points: Array = centre[:, None] + circle * (np.ones(len(centre)) * radius)[:, None, None]
    return points


def _rgb(hue: Array, saturation: Array | float, value: Array | float) -> Array:
    """HSV, all in [0, 1] (hue of any period), to RGB (N, 3)."""
    ramp = np.abs((hue[:, None] + np.array([0, 2, 1]) / 3) % 1 * 6 - 3) - 1
    saturation = np.broadcast_to(saturation, hue.shape)[:, None]
    value = np.broadcast_to(value, hue.shape)[:, None]
    mixed: Array = value * (1 + saturation * (np.clip(ramp, 0, 1) - 1))
    return mixed


def _creature(
    draws: _Draws, has: dict[str, NDArray[np.bool_]]
) -> tuple[list[_Shape], dict[str, Array], Array]:
    """Pose creatures, facing right, chest and rump near y = 0, in px at a picture size of 112.

    Returns
    -------
    shapes : list of _Shape
        From back to front.
    parts : dict of str to (N, 2)
        Positions of all parts, absent ones included.
    centre : (N, 2)
        Middle of the torso.
    """
    always = np.ones(len(has["horns"]), bool)
    shapes: list[_Shape] = []

    def add(owner: str, points: Array, colour: Array, shown: NDArray[np.bool_] = always) -> None:
        shapes.append(_Shape(owner, points, np.clip(colour, 0, 1), shown))

    # Colours: a coat, a second colour for wings and tuft, and what is coloured by its kind.
    hue = draws(0, 1)
    coat = _rgb(hue, draws(0.25, 0.75), draws(0.5, 0.9))
    second = _rgb(hue + draws(0.3, 0.7), draws(0.4, 0.9), draws(0.5, 0.95))
    pale = 0.35 * coat + 0.65
    dark = 0.35 * coat
    far = 0.72 * coat
    orange = _rgb(draws(0.05, 0.13), 0.9, draws(0.85, 1.0))
    ivory = _rgb(draws(0.1, 0.15), 0.2, draws(0.85, 1.0))
    ink = np.full_like(coat, 0.08)

    # The skeleton.
    half, chest_r, rump_r = draws(15, 22), draws(7.5, 10.5), draws(7.5, 10.5)
    chest, rump = _vector(half, draws(-3, 3)), _vector(-half, draws(-3, 3))
    middle = _vector(draws(-4, 4), draws(-7, 5))
    neck_from = chest + _vector(1, -0.4 * chest_r)
    head_r = draws(6.8, 8.8)
    head = neck_from + _direction(draws(-55, 105)) * draws(15, 25)[:, None]
    neck_bend = (neck_from + head) / 2 + _vector(draws(-5, 5), draws(-5, 5))
    look = draws(-55, 40)
    forward, up = _direction(look)[:, None], _direction(look + 90)[:, None]

    def on_head(ahead: Array | float, above: Array | float) -> Array:
        """Point of the head's own frame."""
        place: Array = (
            head + (_vector(ahead, above)[..., None, :] @ np.concatenate([forward, up], 1))[:, 0]
        )
        return place

    zero = np.zeros_like(half)
    eye = on_head(zero + 2.2, 2.6)
    snout = on_head(head_r + 3.8, zero - 1.2)
    ear_turn = look + draws(95, 170)
    ear_from = on_head(zero - 3, 0.6 * head_r)
    ear = ear_from + _direction(ear_turn) * 5.5
    horn_from = on_head(zero + 1.5, 0.75 * head_r)
    horn_to = on_head(draws(2, 9), head_r + draws(9, 12))
    horn_bend = on_head(zero - 1, head_r + 5)
    horn = (horn_from + 2 * horn_bend + horn_to) / 4  # middle of its curve

    def leg(hip: Array) -> tuple[Array, Array, Array, Array]:
        """Hip, knee, foot and the direction in which the foot points."""
        swing = draws(-135, -45)
        knee = hip + _direction(swing) * draws(8, 12)[:, None]
        shin = swing + draws(-30, 30)
        return hip, knee, knee + _direction(shin) * draws(8, 12)[:, None], _direction(shin + 85)

    front = leg(chest + _vector(-2, 0.55 * chest_r))
    hind = leg(rump + _vector(2, 0.5 * rump_r))
    tail_from = rump + _vector(-0.7 * rump_r, -2)
    tail_turn = 180 - draws(-70, 95)
    tail_tip = tail_from + _direction(tail_turn) * draws(17, 28)[:, None]
    tail_bend = tail_from + _direction(tail_turn + draws(-60, 60)) * draws(8, 14)[:, None]
    tail_ends = tail_tip - tail_bend
    tail_ends = tail_ends / np.linalg.norm(tail_ends, axis=1, keepdims=True)
    wing_from = _vector(0.95 * half, -0.8 * chest_r)
    wing_turn, wing_length = draws(42, 145), draws(24, 31)
    wing = wing_from + _direction(wing_turn + 14) * 0.6 * wing_length[:, None]

    # Shapes, from back to front.
    for hip in (hind[0] + (3, -1), front[0] + (3, -1)):
        start, knee, foot, ahead = leg(hip)
        add("far_leg", _tube(start, knee, foot, (3.6, 2.8, 2.2)), far)
        add("far_leg", _disc(foot + ahead, 2.4), 0.6 * far)
    add("tail", _tube(tail_from, tail_bend, tail_tip, (2.8, 2.2, 1.4)), 0.9 * coat)
    add("tail_tip", _disc(tail_tip, 4.6), second, has["tuft"])
    arrow = [(5.5, 0), (-3.5, 4.2), (-1.5, 0), (-3.5, -4.2)]
    across = tail_ends[:, ::-1] * (-1, 1)
    arrow_points = [tail_tip + a * tail_ends + b * across for a, b in arrow]
    add("tail_tip", np.stack(arrow_points, axis=1), dark, ~has["tuft"])
    add("torso", _tube(rump, middle, chest, (rump_r, 0.9 * rump_r, chest_r)), coat)
    for limb, (hip, knee, foot, _) in (("hind", hind), ("front", front)):
        add(f"{limb}_leg", _tube(hip, knee, foot, (4.4, 3.2, 2.3)), 0.93 * coat)
    for shift in (-4.5, 0.0, 4.5):
        top = rump + _vector(shift - 1, -0.85 * rump_r + 0.2 * abs(shift))
        bottom = rump + _vector(shift + 1, 0.75 * rump_r - 0.2 * abs(shift))
        add(
            "rump",
            _tube(top, (top + bottom) / 2 + (1.5, 0), bottom, (0.8, 1.3, 0.8)),
            dark,
            has["striped"],
        )
    _, _, foot, toe = hind
    web = _tube(foot - 2 * toe, foot + toe, foot + 4.5 * toe, (1.2, 2.6, 4.2))
    add("hind_foot", web, orange, has["webbed"])
    claws = [(-2.5, 2.2), (5, 2.6), (1.5, 0.6), (5.5, 0), (1.5, -0.8), (4.5, -2.6), (-2.5, -2.2)]
    fan = toe[:, ::-1] * (-1, 1)
    add(
        "hind_foot",
        np.stack([foot + a * toe + b * fan for a, b in claws], 1),
        ivory,
        ~has["webbed"],
    )
    _, _, foot, toe = front
    add(
        "front_foot",
        _tube(foot - 2 * toe, foot, foot + 3.4 * toe, (3.2, 3.4, 3.0)),
        _rgb(hue + 0.5, 0.75, 0.75),
        has["boots"],
    )
    add("front_foot", _disc(foot + 0.6 * toe, 2.7), dark, ~has["boots"])
    add("neck", _tube(neck_from, neck_bend, head, (0.62 * chest_r, 4.6, 4.4)), 0.97 * coat)
    add("chest", _disc(chest, 0.52 * chest_r), pale, has["bib"])
    add("horn", _tube(horn_from, horn_bend, horn_to, (2.8, 2.4, 0.5)), ivory, has["horns"])
    add(
        "head",
        _tube(
            on_head(zero - 2.5, 0), head, on_head(zero + 3, -0.8), (head_r, head_r, 0.8 * head_r)
        ),
        1.06 * coat,
    )
    beak_to = on_head(head_r + 9, zero - 3)
    add(
        "snout",
        _tube(on_head(0.7 * head_r, zero - 0.8), snout, beak_to, (4.4, 3.8, 0.5)),
        orange,
        has["beak"],
    )
    add(
        "snout",
        _tube(
            on_head(0.8 * head_r, zero - 1.2),
            snout,
            on_head(head_r + 5, zero - 1.4),
            (4.6, 4.4, 3.6),
        ),
        pale,
        ~has["beak"],
    )
    add("snout", _disc(on_head(head_r + 6.5, zero + 0.5), 1.3), ink, ~has["beak"])
    add("ear", _disc(ear, 4.3), 0.75 * coat + 0.1, has["round_ears"])
    ear_to = ear_from + _direction(ear_turn) * 12
    add("ear", _tube(ear_from, ear, ear_to, (3.4, 3.2, 0.3)), dark + 0.1, ~has["round_ears"])
    eye_r = draws(2.7, 3.5)
    add("eye", _disc(eye, eye_r), np.full_like(coat, 0.97), ~has["yellow_eyes"])
    add("eye", _disc(eye, eye_r), np.full_like(coat, 1.0) * (1.0, 0.8, 0.05), has["yellow_eyes"])
    add("eye", _disc(eye + 0.6 * forward[:, 0], 0.5 * eye_r), ink)
    for turn, length, shade in ((32, 0.8, 0.75), (16, 0.92, 0.87), (0, 1.0, 1.0)):
        reach = _direction(wing_turn + turn) * (length * wing_length)[:, None]
        feather = _tube(wing_from, wing_from + 0.6 * reach, wing_from + reach, (2.5, 6.5, 1.2))
        add("wing", feather, shade * second, has["wings"])

    parts = {
        "head": head,
        "eye": eye,
        "snout": snout,
        "ear": ear,
        "horn": horn,
        "chest": chest,
        "rump": rump,
        "wing": wing,
        "front_foot": front[2] + 0.6 * front[3],
        "hind_foot": hind[2] + 1.5 * hind[3],
        "tail_tip": tail_tip,
    }
    return shapes, parts, (chest + rump) / 2


def _surroundings(draws: _Draws, many: int, owner: str, share: float) -> list[_Shape]:
    """Loose shapes anywhere in the picture, in px at a picture size of 112.

    Every fourth one is a ball with a pupil, the others are bent and tapered rods, so that no part
    can be told by its own shape alone.
    """
    shapes = []
    for k in range(many):
        start = _vector(draws(0, 112), draws(0, 112))
        turn, length = draws(0, 360), draws(6, 26) if owner == "clutter" else draws(35, 60)
        end = start + _direction(turn) * length[:, None]
        bend = (start + end) / 2 + _vector(draws(-8, 8), draws(-8, 8))
        colour = _rgb(draws(0, 1), draws(0.0, 0.9), draws(0.1, 1.0))
        thick, taper, shown = draws(1.5, 5), draws(0.1, 1.2), draws(0, 1) < share
        if owner == "occluder":
            thick = thick + 2
        if owner == "clutter" and k % 4 == 0:
            shapes.append(_Shape(owner, _disc(start, thick), colour, shown))
            shapes.append(_Shape(owner, _disc(start, 0.5 * thick), 0.2 * colour, shown))
        else:
            radii = (thick, (1 + taper) / 2 * thick, taper * thick)
            shapes.append(_Shape(owner, _tube(start, bend, end, radii), colour, shown))
    return shapes


# ----------------------------------------------------------------------------------------- pictures


def _draw_chunk(
    numbers: range, seed: int, size: int, plan: list[tuple[str, str | None, float]]
) -> Creatures:
    """Draw the pictures of the given numbers."""
    streams = [np.random.default_rng((seed, number)) for number in numbers]
    table = np.array([stream.random(_DRAWS) for stream in streams]).reshape(-1, _DRAWS)
    has = _draw_attributes(table, plan)
    draws = _Draws(table[:, len(ATTRIBUTES) :])
    shapes, parts, centre = _creature(draws, has)

    # Face left or right, tilt, scale to fit, and lay the skeleton near the picture's middle, so
    # that knowing where the whole animal is says little about its parts. Absent parts count too:
    # an attribute must not move the creature.
    angle = np.deg2rad(draws(-38, 38))
    turn = np.stack(
        [_vector(np.cos(angle), -np.sin(angle)), _vector(np.sin(angle), np.cos(angle))], 1
    )
    turn = turn * np.where(draws(0, 1) < 0.5, -1, 1)[:, None, None] ** np.array([1, 0])
    turn = np.swapaxes(turn, 1, 2)
    skeleton = np.stack([*parts.values()], axis=1) @ turn
    low, high = skeleton.min(axis=1), skeleton.max(axis=1)
    scale = np.minimum(draws(0.95, 1.25), 92 / (high - low).max(axis=1))
    middle = 0.6 * (low + high) / 2 + 0.4 * (centre[:, None] @ turn)[:, 0]
    shift = 56 + _vector(draws(-8, 8), draws(-8, 8)) - middle * scale[:, None]

    def place(points: Array) -> Array:
        """Body frame (N, P, 2) to picture (px)."""
        placed: Array = (points @ turn * scale[:, None, None] + shift[:, None]) * (size / 112)
        return placed

    def loose(shape: _Shape) -> _Shape:
        """Bring a shape that is no part of the creature to the picture's size."""
        return _Shape(shape.owner, shape.points * (size / 112), shape.colour, shape.shown)

    scene = [
        *map(loose, _surroundings(draws, _CLUTTER, "clutter", 0.7)),
        *(_Shape(s.owner, place(s.points), s.colour, s.shown) for s in shapes),
        *map(loose, _surroundings(draws, _OCCLUDERS, "occluder", 0.4)),
    ]
    positions = {part: place(where[:, None])[:, 0] for part, where in parts.items()}
    images, top = _paint(scene, _backgrounds(draws, streams, size), streams, positions)

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
    )


def _backgrounds(draws: _Draws, streams: list[np.random.Generator], size: int) -> Array:
    """Smooth patches of colour (N, size, size, 3) in [0, 1]."""
    cells = 5
    base = _rgb(draws(0, 1), draws(0.05, 0.6), draws(0.35, 0.95))
    rough = draws(0.1, 0.35)[:, None, None, None]
    patches = np.array([stream.random((cells, cells, 3)) for stream in streams])
    patches = base[:, None, None] + rough * (patches.reshape(-1, cells, cells, 3) - 0.5)
    # Cosine interpolation between the cells, as a matrix.
    at = np.linspace(0, cells - 1, size)[:, None] - np.arange(cells)
    blend = 0.5 + 0.5 * np.cos(np.pi * np.clip(at, -1, 1))
    mixed: Array = np.einsum("yi,nijc,xj->nyxc", blend, patches, blend, optimize=True)
    return mixed


def _paint(
    scene: list[_Shape],
    background: Array,
    streams: list[np.random.Generator],
    positions: dict[str, Array],
) -> tuple[NDArray[np.uint8], dict[str, NDArray[np.int64]]]:
    """Draw the scene from back to front.

    Returns
    -------
    images : (N, H, W, 3) uint8
        The pictures.
    top : dict of str to (N,) int64
        What is on top at each part's position: 0 is the background or outside of the frame,
        ``k + 1`` the scene's shape ``k``.
    """
    size, zoom = background.shape[1], _SUPERSAMPLING
    images = np.empty(background.shape, np.uint8)
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
    return images, top


# ------------------------------------------------------------------------------------------ network


class _Residual(nn.Module):
    """Two 3 x 3 convolutions around a shortcut; halves the grid when `stride` is 2."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride), rectified."""
        hidden = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(hidden)) + self.shortcut(x))


class CreatureNet(nn.Module):
    """A small residual network: pictures (N, 3, H, W) to logits (N, 13), see :data:`OUTPUTS`."""

    def __init__(self) -> None:
        super().__init__()
        self.stage1 = nn.Sequential(
            nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU()
        )
        self.stage2 = _Residual(24, 40, 2)
        self.stage3 = _Residual(40, 80, 2)
        self.stage4 = _Residual(80, 128, 2)
        self.head = nn.Linear(128, len(OUTPUTS))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of every output."""
        x = self.stage4(self.stage3(self.stage2(self.stage1(x))))
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


def network(pretrained: bool = True) -> CreatureNet:
    """Return the network that knows creatures, in eval mode.

    It was trained on families and attributes alone, never on the position of a part: what its
    filters know about parts they found by themselves. ``--model explgraph.creatures:network``
    names it at the command line.

    Parameters
    ----------
    pretrained : bool
        Load the shipped weights; otherwise they are random (``torch.manual_seed`` decides).

    Returns
    -------
    CreatureNet
        Stages 1 to 4 have strides 2, 4, 8 and 16 px.
    """
    model = CreatureNet()
    if pretrained:
        stored = resources.files("explgraph").joinpath("creatures.safetensors").read_bytes()
        # Stored in half precision; batch counters stay integers.
        weights = {
            name: value.float() if value.is_floating_point() else value
            for name, value in load(stored).items()
        }
        model.load_state_dict(weights)
    return model.eval()
