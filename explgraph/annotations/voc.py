"""Pascal VOC: an XML file for each image, with boxes.

The format is that of the VOC devkit: ``xmin``, ``ymin``, ``xmax``, ``ymax`` count pixels from 1,
and the last is within the box, so a box spans xmin - 1 to xmax. Difficult and truncated objects
are taken like others; boxes of parts of objects (``part``) aren't looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element

from explgraph.annotations.annotated import Annotations, Photo, Thing, bad, number

__all__ = ["read"]

_SIDES = ("xmin", "ymin", "xmax", "ymax")


def read(files: Mapping[str, Path], roots: Mapping[str, Element]) -> Annotations:
    """Read VOC's files.

    Parameters
    ----------
    files : mapping of str to Path
        By path within the folder that was given.
    roots : mapping of str to Element
        Their outermost elements, ``annotation``.

    Raises
    ------
    ExplgraphError
        If an object has no name or no box.
    """
    photos = [_photo(files[name], name, root) for name, root in roots.items()]
    return Annotations("Pascal VOC files", photos)


def _photo(file: Path, name: str, root: Element) -> Photo:
    """Read one file."""
    things = []
    for at, one in enumerate(root.findall("object")):
        entry = f"object {at + 1}"
        label = (one.findtext("name") or "").strip()
        box = one.find("bndbox")
        sides = [number(box.findtext(side)) if box is not None else number("") for side in _SIDES]
        if not label or any(side != side for side in sides):
            raise bad(file, entry, f"expected a name and a bndbox with {', '.join(_SIDES)}")
        x0, y0, x1, y1 = sides
        things.append(Thing(label, (x0 - 1, y0 - 1, x1, y1), {}))
    width, height = (number(root.findtext(f"size/{side}")) for side in ("width", "height"))
    told = (root.findtext("filename") or "").strip().replace("\\", "/")
    here = PurePosixPath(name)
    names = (str(here.parent / told), told) if told else ()
    return Photo(
        names,
        things,
        (int(width), int(height)) if width >= 1 and height >= 1 else None,
        (str(here.with_suffix("")), here.stem),
    )
