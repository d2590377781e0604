"""Where people marked the parts: landmarks of images, read, put in order, written.

`read_landmarks` reads what the annotation programs write (`explgraph.annotations` has a file for
each) and gives it in pixels of the image *files*, pixel centres at integer + 0.5.
`Landmarks.to_network` maps that to the pixels that the network saw.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from explgraph import rows
from explgraph.annotations import coco
from explgraph.annotations.annotated import Annotations, Mark, Photo, Thing
from explgraph.annotations.recognising import read_annotations
from explgraph.atomic import atomic_write
from explgraph.brief import counted, few
from explgraph.errors import ExplgraphError, nearest, warn
from explgraph.evaluation.whose_marks import Marked, rows_of_images
from explgraph.images.folder import ImageFolder
from explgraph.suffixes import MARKS, check_suffix

__all__ = ["Landmarks", "from_creatures", "read_landmarks", "warn_of_strays"]

Array = NDArray[np.float64]

LIKELY = 0.6
"""What a mark's likelihood must reach: DeepLabCut's own threshold (``pcutoff``)."""


class _Placed(Protocol):
    """What is needed of an `ImageFolder`: names, and where its pixels lie in the image files."""

    @property
    def names(self) -> Sequence[str]: ...

    def to_original(self, index: int, points: ArrayLike) -> Array: ...


class _Drawn(Protocol):
    """What is needed of `explgraph.creatures.Creatures`."""

    @property
    def parts(self) -> Mapping[str, NDArray[np.float32]]: ...

    @property
    def visible(self) -> Mapping[str, NDArray[np.bool_]]: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Marked parts of a set of images.

    Attributes
    ----------
    names : tuple of str
        Images' names, N of them.
    parts : dict of str to (N, 2) float64
        Each part's place [x, y], px, NaN where it isn't marked.
    sources : tuple of str, or None
        The photograph that each image was cut from, where that is known. Crops of one photograph
        belong on the same side of a split.
    kind : str
        Of what they were read, "" if they were not.
    objects : tuple, or None
        Of which photograph and object each row is, for `to_network`, where an annotation program
        told; rows are named ``PHOTOGRAPH#k`` then, where several objects are marked in one. None
        where names are those of an `ImageFolder`.
    """

    names: tuple[str, ...]
    parts: dict[str, Array]
    sources: tuple[str, ...] | None = None
    kind: str = ""
    objects: tuple[Marked, ...] | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        shown = f"{counted(len(self.parts), 'part')} ({few(self.parts)})"
        of = counted(len(self.names), "object" if self._several() else "image")
        told = f", from a {self.kind}" if self.kind else ""
        return f"Landmarks: {shown} in {of}{told}"

    @property
    def label(self) -> str:
        """The class of the marked objects, if a file told one for all of them; else "object"."""
        told = {o.label for o in self.objects or () if not o.loose and o.label}
        return told.pop() if len(told) == 1 else "object"

    def _several(self) -> bool:
        """Whether there are photographs with several objects."""
        return self.objects is not None and len({id(o.photo) for o in self.objects}) < len(
            self.objects
        )

    def align(self, names: Sequence[str]) -> Landmarks:
        """Put the images into another order, leaving out some.

        Parameters
        ----------
        names : sequence of str
            The images to come, for instance ``parse.names``. Those without any landmark are
            unmarked in every part.

        Returns
        -------
        Landmarks
            With exactly these `names`; ``sources`` of images without landmarks are their names.

        Raises
        ------
        ExplgraphError
            If none of the names has landmarks.

        Warns
        -----
        ExplgraphWarning
            If some of the names have no landmarks, and some landmarks are of no name: they may be
            meant for each other.
        """
        if not set(names) <= set(self.names):
            warn_of_strays("landmarks", self.names, names, names)
        return self._aligned(names)

    def _aligned(self, names: Sequence[str]) -> Landmarks:
        """Put the images into another order, leaving out some."""
        row = {name: i for i, name in enumerate(self.names)}
        index = np.array([row.get(name, -1) for name in names], dtype=np.int64)
        if not (index >= 0).any():
            raise ExplgraphError(
                f"none of the {len(names)} images has landmarks: they are named like "
                f"{_first(names)}, the landmarks' images like {_first(self.names)}; names are "
                "paths relative to the folder of the images"
            )
        found = index >= 0
        parts = {k: np.where(found[:, None], p[index], np.nan) for k, p in self.parts.items()}
        sources = None
        if self.sources is not None:
            sources = tuple(
                self.sources[i] if i >= 0 else name for i, name in zip(index, names, strict=True)
            )
        return Landmarks(tuple(names), parts, sources, self.kind)

    def one_per_source(self) -> list[int]:
        """Give the first image of every photograph as indices; all if ``sources`` is None."""
        first: dict[str, int] = {}
        for i, source in enumerate(self.sources or self.names):
            first.setdefault(source, i)
        return list(first.values())

    def to_network(self, images: _Placed) -> Landmarks:
        """Align to the images of a folder, in pixels as the network sees them.

        Where names are those of an annotation program, they may be longer or shorter than the
        folder's (``train/1.jpg`` for ``1.jpg``). Where objects are cut out by boxes, marks go to
        the image whose box fits: best that of their own object's box, else that which holds most
        of them.

        Parameters
        ----------
        images : ImageFolder
            Which stretched, cut or padded the image files that the landmarks were marked in.

        Returns
        -------
        Landmarks
            In the folder's order. A part outside the cut keeps a place outside the image.

        Raises
        ------
        ExplgraphError
            If no image has landmarks, a name may be that of several files, a photograph was marked
            in another size, or several objects are marked in one image.

        Warns
        -----
        ExplgraphWarning
            If there are landmarks of images that the folder doesn't have.
        """
        aligned = self._in(images) if isinstance(images, ImageFolder) else self.align(images.names)
        mapped = {name: part.copy() for name, part in aligned.parts.items()}
        for i in range(len(aligned.names)):
            # x and y are each mapped linearly, so the images of two points tell the whole map
            origin, one = np.asarray(images.to_original(i, np.array([[0.0, 0.0], [1.0, 1.0]])))
            for part in mapped.values():
                part[i] = (part[i] - origin) / (one - origin)
        return Landmarks(aligned.names, mapped, aligned.sources, self.kind)

    def _in(self, images: ImageFolder) -> Landmarks:
        """Align to the images of a folder, in pixels of their files."""
        if self.objects is None:
            warn_of_strays("landmarks", self.names, images.names, images.all_names)
        which = rows_of_images(self.names, self.parts, self.objects, images)
        if not which:
            raise ExplgraphError(
                f"none of the {len(images)} images has landmarks: they are named like "
                f"{_first(images.names)}, the landmarks' images like {_first(self.names)}; names "
                "are paths relative to the folder of the images"
            )
        parts = {part: np.full((len(images), 2), np.nan) for part in self.parts}
        sources = list(images.names)
        for i, name in enumerate(images.names):
            for row in which.get(name, ()):
                for part, places in self.parts.items():
                    if np.isfinite(places[row, 0]):
                        parts[part][i] = places[row]
                if self.sources is not None:
                    sources[i] = self.sources[row]
        told = tuple(sources) if self.sources is not None else None
        return Landmarks(tuple(images.names), parts, told, self.kind)

    def write(
        self,
        path: str | os.PathLike[str],
        images: ImageFolder | None = None,
        *,
        label: str | None = None,
    ) -> None:
        """Write landmarks, in pixels of the image files, to be opened by annotation programs.

        `read_landmarks` reads them again. What `to_network` gives is in other pixels, and not to
        be written.

        Parameters
        ----------
        path : path
            ``*.json``: COCO keypoints, all visible (v = 2). ``*.csv``: ``name,part,x,y``.
        images : ImageFolder, optional
            What they are of. COCO needs it for the photographs' sizes, unless they were read from a
            file that told them; objects' boxes are what the images were cut out of.
        label : str, optional
            What COCO calls the objects' class; by default `label`.

        Raises
        ------
        ExplgraphError
            If the suffix is another, nothing is marked, `images` is needed, or the file can't be
            written.
        """
        suffix = check_suffix(path, MARKS)
        marked = self if images is None else self._in(images)
        if images is None and self._several():
            raise ExplgraphError(
                "several objects are marked in one photograph; pass images=, whose boxes tell them "
                "apart"
            )
        if not any(np.isfinite(places).any() for places in marked.parts.values()):
            raise ExplgraphError("there is no mark to write")
        if suffix == ".csv":
            values = np.stack(list(marked.parts.values()), axis=1)
            columns = {"x": values[..., 0], "y": values[..., 1]}
            rows.write(path, rows.grid(("name", marked.names), ("part", [*marked.parts]), columns))
            return
        objects = _told(self) if images is None else _cut(images)
        content = coco.content_of(
            [
                coco.Marked(file, size, box, {
                    part: (float(places[i, 0]), float(places[i, 1]))
                    for part, places in marked.parts.items() if np.isfinite(places[i, 0])
                })
                for i, (file, size, box) in enumerate(objects)
            ],
            [*marked.parts],
            self.label if label is None else label,
        )  # fmt: skip
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")


_Object = tuple[str, tuple[int, int], tuple[float, float, float, float] | None]


def _told(landmarks: Landmarks) -> list[_Object]:
    """Give each row's file, size and box, as they were read."""
    objects: list[_Object] = [
        (one.photo.name, one.photo.size, one.box)
        for one in landmarks.objects or ()
        if one.photo.size is not None
    ]
    if len(objects) < len(landmarks.names):
        raise ExplgraphError("COCO has the photographs' sizes, which aren't known; pass images=")
    return objects


def _cut(images: ImageFolder) -> list[_Object]:
    """Give each image's file, its size, and the box that the image was cut out by."""
    objects: list[_Object] = []
    for file, source, _ in images.cuts().values():
        size = images.photo_size(file)
        if size is None:
            raise ExplgraphError(f"images don't know the size of {file!r}; open the folder again")
        objects.append((file, size, source))
    return objects


def warn_of_strays(
    what: str, marked: Collection[str], images: Sequence[str], known: Collection[str]
) -> None:
    """Warn of what is marked in images that are not there.

    Parameters
    ----------
    what : str
        "landmarks", say.
    marked : collection of str
        Names of the images that are marked.
    images : sequence of str
        Names of those that are asked for.
    known : collection of str
        Names that are no mistake, such as those of images that weren't chosen.
    """
    strays = [name for name in marked if name not in known]
    # where no name is right there is an error to come, which says more
    if strays and not set(images).isdisjoint(marked):
        listed = ", ".join(map(repr, strays[:3])) + (", ..." if len(strays) > 3 else "")
        warn(
            f"{what} of {len(strays)} of {len(marked)} images are left out, since no image has "
            f"their name: {listed}{nearest(strays[0], images)}"
        )


def read_landmarks(
    path: str | os.PathLike[str],
    *,
    object_class: str | Iterable[str] | None = None,
    occluded: bool = True,
    likelihood: float = LIKELY,
) -> Landmarks:
    """Read marked parts, from whatever program they are; the format is told by the content.

    Parameters
    ----------
    path : path
        COCO keypoints (``*.json``); DeepLabCut (``*.csv``, of one or several animals); CVAT for
        images 1.1 (``*.xml``); Label Studio (``*.json``, JSON or JSON-MIN); LabelMe (``*.json``, or
        the folder); CUB-200-2011 (``part_locs.txt``, or the folder); CSV with the columns ``name``,
        ``part``, ``x``, ``y`` and perhaps ``visible``, ``likelihood``; ``parts.json``.
    object_class : str or sequence of str, optional
        Which classes' objects to take, where several have marks; ``"*"`` for all.
    occluded : bool
        Take marks of parts that are hidden (v = 1 in COCO, occluded in CVAT), too.
    likelihood : float
        What a mark's likelihood must reach, where there is one: what networks marked has it. The
        default is DeepLabCut's.

    Returns
    -------
    Landmarks
        In pixels of the image files, pixel centres at integer + 0.5, whatever the format counts
        from.

    Raises
    ------
    ExplgraphError
        If the file can't be read, is of no format that is read, or is broken; names the file and
        the entry.

    Examples
    --------
    >>> marks = explgraph.read_landmarks("birds.json").to_network(images)  # doctest: +SKIP
    """
    if isinstance(likelihood, bool) or not 0 <= likelihood <= 1:
        raise ExplgraphError(f"likelihood must be from 0 to 1, got {likelihood!r}")
    found = read_annotations(path, "marks").only(
        object_class, "object_class (--landmark-class)", "marks"
    )
    return _assembled(found, occluded, likelihood)


def from_creatures(creatures: _Drawn, names: Sequence[str] | None = None) -> Landmarks:
    """Landmarks of drawn creatures: the places of all parts that can be seen.

    Parameters
    ----------
    creatures : Creatures
        As drawn by `explgraph.creatures.draw`.
    names : sequence of str, optional
        The images' names; without it those that `batches` gives to the pictures' tensor, numbers
        from 0 with zeros in front.

    Returns
    -------
    Landmarks
        NaN where a part is absent, hidden or out of the frame.
    """
    parts = {
        name: np.where(creatures.visible[name][:, None], place, np.nan).astype(np.float64)
        for name, place in creatures.parts.items()
    }
    digits = len(str(len(creatures) - 1))
    numbers = (f"{i:0{digits}d}" for i in range(len(creatures)))
    return Landmarks(tuple(names or numbers), parts)


def _assembled(found: Annotations, occluded: bool, likelihood: float) -> Landmarks:
    """Build landmarks from what was read: a row for each marked object."""
    rows: list[tuple[Photo, Thing]] = []
    names: list[str] = []
    for photo in found.photos:
        things = [
            thing._replace(marks={
                part: mark for part, mark in thing.marks.items()
                if mark.likelihood >= likelihood and (occluded or not mark.occluded)
            })
            for thing in photo.things
        ]  # fmt: skip
        marked = _as_one([thing for thing in things if thing.marks]) or [Thing("", None, {})]
        rows += [(photo, thing) for thing in marked]
        many = len(marked) > 1
        names += [f"{photo.name}#{k}" if many else photo.name for k in range(len(marked))]
    unmarked = (np.nan, np.nan)
    parts = {
        part: np.array([thing.marks.get(part, unmarked)[:2] for _, thing in rows]).reshape(-1, 2)
        for part in found.parts
    }
    sources = None
    if found.sources is not None:
        sources = tuple(found.sources[name] for name in names)
    objects = tuple(Marked(photo, thing.box, thing.loose, thing.label) for photo, thing in rows)
    return Landmarks(tuple(names), parts, sources, found.kind, None if found.explicit else objects)


def _as_one(things: list[Thing]) -> list[Thing]:
    """Take loose marks for those of one object, where no part is marked twice."""
    if not things or not all(thing.loose for thing in things):
        return things
    marks: dict[str, Mark] = {}
    for thing in things:
        marks.update(thing.marks)
    if len(marks) < sum(len(thing.marks) for thing in things):
        return things
    return [Thing("", None, marks)]


def _first(names: Sequence[str]) -> str:
    """Quote the first name, if there is one."""
    return repr(names[0]) if names else "(no names)"
