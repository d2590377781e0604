"""What two networks that see the same photographs have in common: images, frames, classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from explgraph.errors import ExplgraphError
from explgraph.graph.graph import Graph
from explgraph.images.further import WithInputs
from explgraph.network.class_names import class_names, class_number, class_title
from explgraph.views.pictures import Colours, jpeg, part_side, patch
from explgraph.views.visualized import as_colours

__all__ = ["classes_of", "cut_patches", "frame", "pictures_of", "shared"]

Array = NDArray[np.float64]

_OFTEN = 0.1  # of the images have a class first that is asked for unless told otherwise
_MOST = 8  # such classes
_TILE = 112  # px of a patch


def shared(a: Sequence[str], b: Sequence[str], least: int) -> list[str]:
    """Give the images that both networks saw, by name.

    Raises
    ------
    ExplgraphError
        If there are none, or too few to test anything.
    """
    known = set(b)
    names = [name for name in a if name in known]
    if not names:
        raise ExplgraphError(
            f"the two networks share no photographs: A's are called {a[0]!r}, ..., B's "
            f"{b[0]!r}, ...; images_b must be the same ones under the same names"
        )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ExplgraphError(f"images holds {twice!r} twice; expected different names")
    if len(names) < least:
        raise ExplgraphError(
            f"{len(names)} images are too few to test anything; at least {least} are needed, "
            "better some hundreds"
        )
    return names


def classes_of(
    classes: Any,
    models: Sequence[nn.Module],
    scores: Sequence[Array],
    doubts: list[str],
) -> list[tuple[str, tuple[int, int]]]:
    """Give classes' titles and their columns in A's and B's scores.

    Raises
    ------
    ExplgraphError
        If a model has no such class, or a class is named twice.
    """
    sizes = [one.shape[1] for one in scores]
    names = [class_names(model, size) for model, size in zip(models, sizes, strict=True)]
    if classes is None:
        if sizes[0] != sizes[1]:
            doubts.append(
                f"no effects on classes are compared: network A has {sizes[0]} outputs, B "
                f"{sizes[1]}; say which by classes="
            )
            return []
        first = np.concatenate([one.argmax(1) for one in scores])
        count = np.bincount(first, minlength=sizes[0]) / len(scores[0])
        often = [k for k in np.argsort(-count, kind="stable")[:_MOST] if count[k] >= _OFTEN]
        return [(class_title(int(k), names[0]), (int(k), int(k))) for k in often]
    listed = [classes] if isinstance(classes, (int, str)) else classes
    if not isinstance(listed, (Mapping, Sequence)):
        raise ExplgraphError(
            "classes must be numbers or names of classes, or a mapping of your names to numbers, "
            f"got {type(classes).__name__}"
        )
    named = listed.items() if isinstance(listed, Mapping) else [(None, one) for one in listed]
    found: dict[str, tuple[int, int]] = {}
    for name, one in named:
        two = one if isinstance(one, (tuple, list)) else (one, one)
        if len(two) != 2:
            raise ExplgraphError(
                f"classes: {name!r} is {one!r}; expected a class, or A's and B's: (3, 5)"
            )
        columns = [class_number(*each) for each in zip(two, names, sizes, strict=True)]
        title = str(name) if name is not None else class_title(columns[0], names[0])
        if title in found:
            raise ExplgraphError(f"classes names {title!r} twice")
        found[title] = (columns[0], columns[1])
    return list(found.items())


def frame(
    source: Any,
    source_size: tuple[int, int],
    target: Any,
    target_size: tuple[int, int],
    names: Sequence[str],
) -> Callable[[NDArray[np.floating]], Array]:
    """Give what takes places (N, V, 2) px of one network's images to the other's.

    By way of the photographs, where both know which part of them they show; as shares of the sides
    otherwise.

    Parameters
    ----------
    source, target : images
        As `explgraph.images.taken.taken` gives them.
    source_size, target_size : (int, int)
        ``(H, W)`` px.
    names : sequence of str
        Of the N images.
    """
    size, other = (np.array([w, h], float) for h, w in (source_size, target_size))
    if not (hasattr(source, "to_original") and hasattr(target, "to_original")):
        return lambda places: np.asarray(places, np.float64) * (other / size)
    rows = [{name: k for k, name in enumerate(one.names)} for one in (source, target)]
    # either is cut, turned and scaled alike in all its points: three of them tell how
    corners = [np.array([[0, 0], [w, 0], [0, h]]) for w, h in (size, other)]
    turn, shift = [], []
    for name in names:
        a, b = (
            one.to_original(row[name], points)
            for one, row, points in zip((source, target), rows, corners, strict=True)
        )
        to_photograph = np.stack([(a[1] - a[0]) / size[0], (a[2] - a[0]) / size[1]], 1)
        back = np.linalg.inv(np.stack([(b[1] - b[0]) / other[0], (b[2] - b[0]) / other[1]], 1))
        turn.append(back @ to_photograph)
        shift.append(back @ (a[0] - b[0]))
    matrices, shifts = np.stack(turn), np.stack(shift)
    return lambda places: np.einsum("nij,nvj->nvi", matrices, places) + shifts[:, None]


def pictures_of(images: Any, graph: Graph, names: Sequence[str]) -> Callable[[str], Colours | None]:
    """Give what shows an image of a name, as the network saw it; nothing where that isn't known."""
    while isinstance(images, WithInputs):
        images = images.images
    row = {name: number for number, name in enumerate(names)}

    def shown(name: str) -> Colours | None:
        if hasattr(images, "picture"):
            return np.asarray(images.picture(row[name]))
        if isinstance(images, Tensor):
            return as_colours(graph, images[row[name]].detach().float().cpu().numpy())
        return None

    return shown


def cut_patches(
    pictures: Callable[[str], Colours | None],
    names: Sequence[str],
    at: Array,
    there: Array,
    image_size: tuple[int, int],
    most: int,
) -> list[tuple[str, ...]]:
    """Cut patches of V things (N, V, 2) px where they are most present, as data addresses."""
    side = part_side(image_size)
    known: dict[str, Colours | None] = {}
    found = []
    for thing in range(there.shape[1]):
        best = np.argsort(-there[:, thing], kind="stable")[:most]
        tiles = []
        for row in best:
            if names[row] not in known:
                known[names[row]] = pictures(names[row])
            picture = known[names[row]]
            if picture is not None:
                x, y = at[row, thing].tolist()
                tile = patch(picture, x, y, side, _TILE)[0]
                tiles.append(jpeg(tile, _TILE))
        found.append(tuple(tiles))
    return found
