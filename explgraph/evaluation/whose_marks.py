"""Which image of a folder each marked object is in, where objects are cut out by boxes or aren't.

An object may be in an image if at least half of its box, or of its marks where it has no box, lies
in what the image was cut out of. Within a photograph images and objects are paired so that their
boxes agree best (intersection over union; without a box, that around the marks). Marks that belong
to no object in particular go to the smallest image that holds them. Where two objects may be in
one image, and neither box agrees with it by half, it isn't known whose the image is: that is
refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from explgraph.annotations.annotated import Box, Photo, around
from explgraph.annotations.photographs import check_size, find_photos
from explgraph.errors import ExplgraphError
from explgraph.images.folder import ImageFolder

__all__ = ["Marked", "rows_of_images"]

Array = NDArray[np.float64]

_HALF = 0.5  # of an object that an image must hold; of two boxes that must agree


class Marked(NamedTuple):
    """Of which photograph a row of landmarks is, the object's box and class, if it is loose."""

    photo: Photo
    box: Box | None
    loose: bool
    label: str


def rows_of_images(
    names: Sequence[str],
    parts: Mapping[str, Array],
    objects: Sequence[Marked] | None,
    images: ImageFolder,
) -> dict[str, list[int]]:
    """Say which rows of landmarks are of each image.

    Parameters
    ----------
    names : sequence of str
        Of N rows: images', or photographs' names, if `objects` is None.
    parts : mapping of str to (N, 2)
        px of the photographs, NaN where unmarked.
    objects : sequence of Marked, or None
    images : ImageFolder

    Returns
    -------
    dict of str to list of int
        Rows by image; several where marks were loose.

    Raises
    ------
    ExplgraphError
        As `find_photos`; or if several objects are marked in one image, a photograph was marked in
        another size, or all marks lie elsewhere.
    """
    cuts = images.cuts()
    crops: dict[str, list[tuple[str, Box]]] = {}
    for name, (file, source, _) in cuts.items():
        crops.setdefault(file, []).append((name, source))
    found: dict[str, list[int]] = {}
    rows: dict[str, list[int]] = {}  # by file, of those that aren't found by their names
    if objects is None:
        for row, name in enumerate(names):
            if name in cuts:
                found[name] = [row]
            elif name in crops:
                rows.setdefault(name, []).append(row)
    else:
        rows = _rows_of_files(objects, crops, images)
    places = np.stack([*parts.values()], axis=1) if parts else np.empty((len(names), 0, 2))
    unclear: list[tuple[str, list[int]]] = []
    for file, of_file in rows.items():
        told = [objects[row] if objects is not None else None for row in of_file]
        whose = _paired(
            [places[row] for row in of_file],
            [one.box if one is not None else None for one in told],
            [one.loose if one is not None else False for one in told],
            [source for _, source in crops[file]],
        )
        if whose is None:
            unclear.append((file, of_file))
            continue
        for row, image in zip(of_file, whose, strict=True):
            if image is not None:
                found.setdefault(crops[file][image][0], []).append(row)
    for crop, of_image in found.items():
        # a table may name an image, and its photograph as well
        if len(of_image) > 1 and np.isfinite(places[of_image, :, 0]).sum(0).max(initial=0) > 1:
            unclear.append((cuts[crop][0], of_image))
    if unclear:
        raise _several(unclear, objects)
    if rows and not found:
        raise ExplgraphError(
            f"landmarks of {len(rows)} photographs lie in none of the images that were cut out of "
            f"them, such as those of {next(iter(rows))!r}; do the boxes belong to them?"
        )
    return found


def _rows_of_files(
    objects: Sequence[Marked], crops: Mapping[str, object], images: ImageFolder
) -> dict[str, list[int]]:
    """Find the rows of each photograph that there are images of."""
    photos = {id(one.photo): one.photo for one in objects}
    index = {key: k for k, key in enumerate(photos)}
    # names of crops are no files
    files = {
        name for name in images.all_names
        if name in crops or name.rsplit("#", 1)[0] == name
        or name.rsplit("#", 1)[0] not in images.all_names
    }  # fmt: skip
    file_of = find_photos(list(photos.values()), files, images.path, "landmarks")
    rows: dict[str, list[int]] = {}
    for row, one in enumerate(objects):
        file = file_of.get(index[id(one.photo)])
        if file in crops and file is not None:
            rows.setdefault(file, []).append(row)
    for file, of_file in rows.items():
        if (told := objects[of_file[0]].photo.size) is not None:
            check_size(file, told, images.photo_size(file))
    return rows


def _several(
    unclear: Sequence[tuple[str, list[int]]], objects: Sequence[Marked] | None
) -> ExplgraphError:
    """Say that objects can't be told apart, and what helps."""
    file, of_file = unclear[0]
    more = f", and so in {len(unclear) - 1} others" if len(unclear) > 1 else ""
    boxed = objects is not None and any(objects[row].box for row in of_file)
    return ExplgraphError(
        f"in {file!r} several objects are marked in one image{more}; an image is to show one "
        "object: cut them out by boxes (ImageFolder(boxes=...), --boxes), "
        + ("which the same file has" if boxed else "and marks will be found by them")
        + ", or leave these images out"
    )


def _paired(
    marks: Sequence[Array],
    boxes: Sequence[Box | None],
    loose: Sequence[bool],
    images: Sequence[Box],
) -> list[int | None] | None:
    """Say in which image of a photograph each object is; None if that isn't clear."""
    whose: list[int | None] = [None] * len(marks)
    finite = [place[np.isfinite(place[:, 0])] for place in marks]
    whole = [i for i, many in enumerate(finite) if len(many) and not loose[i]]
    held = np.zeros((len(whole), len(images)), dtype=bool)
    agree = np.zeros(held.shape)
    for a, i in enumerate(whole):
        box = boxes[i] or around((float(x), float(y)) for x, y in finite[i])
        for b, image in enumerate(images):
            share = _shared(box, image)[0] if boxes[i] else float(_within(finite[i], image).mean())
            held[a, b] = share >= _HALF
            agree[a, b] = _shared(box, image)[1]
    # whoever may be in an image counts above all, then how well boxes agree
    left = set(range(len(whole)))
    taken: dict[int, int] = {}
    for a, b in zip(*linear_sum_assignment(-(held * (1.0 + agree))), strict=True):
        if held[a, b]:
            whose[whole[a]] = int(b)
            taken[int(b)] = int(a)
            left.discard(int(a))
    for a in left:
        if any(held[a, b] and agree[taken[b], b] < _HALF for b in taken):
            return None
    for i in np.flatnonzero(np.asarray(loose, dtype=bool)).tolist():
        inside = [b for b, image in enumerate(images) if _within(finite[i], image).all()]
        whose[i] = min(inside, key=lambda b: _area(images[b])) if inside else None
    for b in range(len(images)):
        together = np.array(
            [np.isfinite(marks[i][:, 0]) for i in range(len(marks)) if whose[i] == b]
        )
        if len(together) and together.sum(0).max(initial=0) > 1:
            return None
    return whose


def _within(points: Array, box: Box) -> NDArray[np.bool_]:
    """Which points (n, 2) lie in a box."""
    return np.asarray(((points >= box[:2]) & (points <= box[2:])).all(axis=1))


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _shared(box: Box, other: Box) -> tuple[float, float]:
    """Give the share of a box that lies in another, and their intersection over union."""
    common = _area((
        max(box[0], other[0]), max(box[1], other[1]), min(box[2], other[2]), min(box[3], other[3]),
    ))  # fmt: skip
    union = _area(box) + _area(other) - common
    return common / _area(box) if _area(box) else 0.0, common / union if union else 0.0
