"""Images as people see them, and the patches that nodes were found at.

What a network takes is normalised; what is drawn is not. `Pictures` gives the images of any source
as plain colours at the size that the network saw, by number or by name, and `best_sightings` says
where a node was seen best in them. Everything that draws uses both.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from explgraph.errors import ExplgraphError
from explgraph.graph.graph import Graph
from explgraph.graph.parts import Part
from explgraph.images.decoding import colours_of
from explgraph.images.folder import ImageFolder
from explgraph.parsed import Parse, check_parse
from explgraph.parsed_parts import ParsedParts

__all__ = [
    "Colours",
    "Drawable",
    "Pictures",
    "Sighting",
    "best_sightings",
    "columns_of",
    "jpeg",
    "mean_patch",
    "part_side",
    "part_sightings",
    "patch",
    "patch_side",
]

Colours: TypeAlias = "NDArray[np.uint8]"
_NO_PIXEL = 128  # grey of what lies outside the image
_LARGEST = 0.4  # of a patch, as a share of the image's shorter side


@runtime_checkable
class _Folder(Protocol):
    """What an `explgraph.ImageFolder` offers for drawing."""

    @property
    def names(self) -> Sequence[str]: ...

    def picture(self, index: int) -> Image.Image: ...


Drawable: TypeAlias = "Pictures | _Folder | NDArray[np.uint8] | Sequence[Any]"


class Pictures:
    """Images of any source as ``(H, W, 3)`` uint8 colours.

    Parameters
    ----------
    images : ImageFolder, (N, H, W, 3) uint8 array or tensor, or sequence
        The items of a sequence are PIL images or ``(H, W, 3)`` uint8 arrays. Grey ones may lack
        the last axis, or have one channel.
    image_size : (int, int)
        ``(H, W)`` px as the network saw them, which every image must have.
    names : sequence of str, optional
        For a source without names; "0", "1", ... (with zeros in front) otherwise, as a parse of
        the same images calls them.

    Raises
    ------
    ExplgraphError
        If this is no source of pictures (a normalised tensor isn't), or an image has another size.
    """

    def __init__(
        self,
        images: Drawable,
        image_size: tuple[int, int],
        names: Sequence[str] | None = None,
    ) -> None:
        self.image_size = image_size
        self.names: tuple[str, ...]
        # which picture of the source each is, if several are the same
        self._rows: NDArray[np.int64] | None = None
        if isinstance(images, Pictures):
            self._source: Any = images._source
            self._rows = images._rows
            names = images.names
        elif isinstance(images, _Folder):
            self._source = images
            names = images.names
        else:
            # a tensor has .cpu(); a path or a string has a length, but no pictures
            self._source = images.cpu().numpy() if hasattr(images, "cpu") else images
            if isinstance(self._source, str) or not hasattr(self._source, "__len__"):
                raise ExplgraphError(
                    f"images is {type(images).__name__}; expected an explgraph.ImageFolder, "
                    "(N, H, W, 3) uint8 colours, or a list of PIL images"
                )
            self._check_array()
            digits = len(str(len(self._source) - 1))
            if names is None or len(names) != len(self._source):
                names = [str(i).zfill(digits) for i in range(len(self._source))]
        self.names = tuple(names)
        self._index = {name: i for i, name in enumerate(self.names)}
        if not self.names:
            raise ExplgraphError("images is empty; at least one image is needed")

    @classmethod
    def of(cls, images: Drawable, image_size: tuple[int, int], parse: Parse | None) -> Pictures:
        """Take the images that a parse is of, under the names of its rows.

        An image of several objects is there once for each of them. Without a parse, or of its
        images others as well: as they are.
        """
        if parse is not None:
            check_parse(parse)
        if parse is None or parse.image_names == parse.names:
            return cls(images, image_size, None if parse is None else parse.names)
        pictures = cls(images, image_size, tuple(dict.fromkeys(parse.image_names)))
        number = {name: i for i, name in enumerate(pictures.names)}
        there = [k for k, name in enumerate(parse.image_names) if name in number]
        if there:
            of = [number[parse.image_names[k]] for k in there]
            pictures._rows = np.array(of, dtype=np.int64)
            pictures.names = tuple(parse.names[k] for k in there)
            pictures._index = {name: i for i, name in enumerate(pictures.names)}
        return pictures

    def _check_array(self) -> None:
        """Refuse an array that holds anything but colours."""
        if not isinstance(self._source, np.ndarray):
            return
        grey = self._source.ndim == 3 or self._source.shape[3:] == (1,)
        if self._source.dtype != np.uint8 or not (grey or self._source.shape[3:] == (3,)):
            raise ExplgraphError(
                f"images is {self._source.dtype} of the shape {self._source.shape}; expected "
                "colours, (N, H, W, 3) uint8, or grey, (N, H, W): what was normalised for the "
                "network can't be drawn (explgraph.views.visualized.as_colours turns it back)"
            )

    def __len__(self) -> int:
        """Count the images."""
        return len(self.names)

    def __contains__(self, name: str) -> bool:
        """Tell whether there is an image of this name."""
        return name in self._index

    def index(self, image: int | str) -> int:
        """Give the number of an image, which may be named.

        Raises
        ------
        ExplgraphError
            If there is no such image.
        """
        if isinstance(image, str):
            if image not in self._index:
                raise ExplgraphError(
                    f"there is no image {image!r}; the first of {len(self)} is {self.names[0]!r}"
                )
            return self._index[image]
        if not 0 <= image < len(self):
            raise ExplgraphError(f"there is no image {image}; expected 0 to {len(self) - 1}")
        return image

    def __getitem__(self, image: int | str) -> Colours:
        """Give an image's colours, ``(H, W, 3)`` uint8."""
        i = self.index(image)
        k = i if self._rows is None else int(self._rows[i])
        item = self._source.picture(k) if isinstance(self._source, _Folder) else self._source[k]
        if isinstance(item, Image.Image):
            item = colours_of(item)
        item = np.asarray(item)
        if item.shape in (self.image_size, (*self.image_size, 1)):  # grey
            item = np.broadcast_to(item.reshape(*self.image_size, 1), (*self.image_size, 3))
        if item.dtype != np.uint8 or item.shape != (*self.image_size, 3):
            raise ExplgraphError(
                f"image {self.names[i]!r} is {item.dtype} of the shape {item.shape}; expected "
                f"uint8 colours of {(*self.image_size, 3)}, the size that the graph was mined at; "
                "explgraph.ImageFolder brings photographs to it"
            )
        return item

    def photograph(self, image: int | str, longest: int) -> Image.Image:
        """Give an image for people to look at: RGB, its longer side at most so many px.

        Of an `explgraph.ImageFolder` it is what the network sees of the photograph, in the
        photograph's own resolution and proportions; of others as the network saw it.
        """
        i = self.index(image)
        if isinstance(self._source, ImageFolder):
            return self._source.picture(i if self._rows is None else int(self._rows[i]), longest)
        picture = Image.fromarray(self[i])
        picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
        return picture


class Sighting(NamedTuple):
    """Where a node or a part was seen in an image.

    Attributes
    ----------
    image : int
        Number of the image.
    x, y : float
        px.
    score : float
    """

    image: int
    x: float
    y: float
    score: float


def columns_of(graph: Graph, parse: Parse) -> NDArray[np.int64]:
    """Columns of a parse that hold a graph's nodes, ``(V,)``, in the graph's order.

    A graph that was pruned after it was parsed has fewer nodes than its parse.

    Raises
    ------
    ExplgraphError
        If the parse lacks a node, or is of images of another size.
    """
    check_parse(parse)
    if tuple(parse.image_size) != graph.image_size:
        raise ExplgraphError(
            f"parse is of images of the size {tuple(parse.image_size)}, the graph of "
            f"{graph.image_size}; parse images of that size"
        )
    column = {node: k for k, node in enumerate(parse.nodes)}
    for node in graph.node_ids:
        if node not in column:
            raise ExplgraphError(
                f"parse lacks node {node!r} of the graph; give graph.parse(model, images)"
            )
    return np.array([column[node] for node in graph.node_ids], dtype=np.int64)


def best_sightings(
    graph: Graph, node: str, pictures: Pictures, parse: Parse | None, count: int
) -> list[Sighting]:
    """Where a node was seen best in some images, best first.

    Parameters
    ----------
    graph : ExplanatoryGraph
    node : str
    pictures : Pictures
    parse : Parse or None
        Of these images, by name. Without one, what the graph remembers of the images that it was
        mined from.
    count : int
        At most so many; fewer where the node was seen in fewer.
    """
    if parse is None:
        seen = [
            Sighting(pictures.index(name), x, y, score)
            for name, x, y, score in graph.top_images.get(node, [])
            if name in pictures
        ]
        return seen[:count]
    v = parse.nodes.index(node)
    scores = parse.scores[:, v]
    best = np.argsort(-scores, kind="stable")
    places = []
    for i in best[scores[best] > 0]:
        if parse.names[i] in pictures:
            x, y = parse.positions[i, v].tolist()
            places.append(Sighting(pictures.index(parse.names[i]), x, y, float(scores[i])))
        if len(places) == count:
            break
    return places


def part_sightings(
    part: Part, pictures: Pictures, found: ParsedParts | None, count: int
) -> list[Sighting]:
    """Where a part was seen best in some images, best first.

    Parameters
    ----------
    part : Part
    pictures : Pictures
    found : ParsedParts or None
        Where the parts are in these images, by name. Without it, the part's exemplars.
    count : int
        At most so many; fewer where the part was seen in fewer.
    """
    if found is None:
        seen = [
            Sighting(pictures.index(name), x, y, score)
            for name, x, y, score in part.exemplars
            if name in pictures
        ]
        return seen[:count]
    k = found.parts.index(part.id)
    there = found.presence[:, k]
    sightings: list[Sighting] = []
    for n in np.argsort(-there, kind="stable").tolist():
        if len(sightings) == count or there[n] < 0.5:
            break
        if found.names[n] in pictures:
            x, y = found.positions[n, k].tolist()
            sightings.append(Sighting(pictures.index(found.names[n]), x, y, float(there[n])))
    return sightings


def part_side(image_size: tuple[int, int]) -> float:
    """Side of a part's patch, px: 0.4 of the image, the same for all parts of a graph."""
    return max(4.0, _LARGEST * min(image_size))


def patch_side(graph: Graph, node: str) -> float:
    """Side of a node's patch, px: its receptive field, or 0.4 of the image where that is less.

    In upper layers the theoretical receptive field is often wider than the image, while what
    a unit really answers to is a part of it (`explgraph.views.filters.filter_figure` measures it).
    """
    field: float = graph.nx.nodes[node]["receptive_field"]
    return max(4.0, min(field, _LARGEST * min(graph.image_size)))


def patch(
    picture: Colours, x: float, y: float, side: float, size: int
) -> tuple[Colours, NDArray[np.bool_]]:
    """Cut a square around a point out of a picture.

    Parameters
    ----------
    picture : (H, W, 3) uint8
    x, y : float
        Its centre, px.
    side : float
        px of the picture.
    size : int
        Side of the patch, px.

    Returns
    -------
    patch : (size, size, 3) uint8
        Grey where there is no picture.
    inside : (size, size) bool
        Where there is.
    """
    step = side / size
    left, top = x - side / 2, y - side / 2
    source = Image.fromarray(picture)
    if step > 1:  # bilinear sampling alone would skip pixels
        factor = int(np.ceil(step))
        source = source.resize(
            (max(1, round(source.width / factor)), max(1, round(source.height / factor))),
            Image.Resampling.BOX,
        )
        ratio = source.width / picture.shape[1], source.height / picture.shape[0]
    else:
        ratio = 1.0, 1.0
    grey = (_NO_PIXEL,) * 3
    cut = source.transform(
        (size, size),
        Image.Transform.AFFINE,
        (step * ratio[0], 0, left * ratio[0], 0, step * ratio[1], top * ratio[1]),
        Image.Resampling.BILINEAR,
        fillcolor=grey,
    )
    along = (np.arange(size) + 0.5) * step
    in_x = (left + along >= 0) & (left + along < picture.shape[1])
    in_y = (top + along >= 0) & (top + along < picture.shape[0])
    inside = in_y[:, None] & in_x[None, :]
    colours = np.array(cut)
    colours[~inside] = _NO_PIXEL
    return colours, inside


def mean_patch(patches: Sequence[tuple[Colours, NDArray[np.bool_]]]) -> Colours:
    """Average patches of one size, each where it has a picture; grey where none has."""
    size = patches[0][0].shape
    total = np.zeros(size, np.float64)
    count = np.zeros(size[:2], np.int64)
    for colours, inside in patches:
        total += np.where(inside[..., None], colours, 0)
        count += inside
    mean = np.where(count[..., None] > 0, total / np.maximum(count, 1)[..., None], _NO_PIXEL)
    averaged: Colours = np.rint(mean).astype(np.uint8)
    return averaged


def jpeg(picture: Colours, most: int | None = None, *, quality: int = 85) -> str:
    """Give a picture, at most so many px wide or high, as a data address: an image in a page."""
    small = Image.fromarray(picture)
    if most is not None:
        small.thumbnail((most, most))
    content = io.BytesIO()
    small.save(content, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()
