"""Which format a file or folder of annotations is of, by what is in it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from explgraph.annotations import (
    coco,
    cub,
    cvat,
    deeplabcut,
    label_studio,
    labelme,
    tables,
    voc,
    yolo,
)
from explgraph.annotations.annotated import Annotations
from explgraph.annotations.safe_xml import read_xml
from explgraph.errors import ExplgraphError
from explgraph.paths import checked_path
from explgraph.textfiles import read_json

__all__ = ["read_annotations"]

What = Literal["marks", "boxes"]

_READ = {
    "marks": "*.json (COCO, LabelMe, Label Studio, or laid out as parts.json), *.csv "
    "(name,part,x,y, or of DeepLabCut), CVAT's *.xml, CUB-200-2011's part_locs.txt",
    "boxes": "*.csv (name,x0,y0,x1,y1), *.json (COCO, LabelMe, Label Studio), CVAT's *.xml, a "
    "folder of YOLO's *.txt or of Pascal VOC's *.xml, CUB-200-2011's bounding_boxes.txt",
}
_INSTEAD = {
    ".zip": "unpack it, and give what is inside",
    ".h5": "give the .csv that DeepLabCut writes beside it",
    ".hdf5": "give the .csv that DeepLabCut writes beside it",
    ".slp": "export it from SLEAP as COCO or DeepLabCut CSV",
    ".yaml": "give the folder of the label files",
    ".yml": "give the folder of the label files",
}


def read_annotations(path: str | os.PathLike[str], what: What) -> Annotations:
    """Read marks or boxes, from whatever program they are.

    Parameters
    ----------
    path : path
        File, or folder where a format has a file for each image.
    what : {"marks", "boxes"}
        Which of them there must be.

    Returns
    -------
    Annotations
        CSVs of boxes are read by `explgraph.annotations.tables.read_boxes`.

    Raises
    ------
    ExplgraphError
        If it can't be read, is of no format that is read, is broken, or has only the other.
    """
    file = checked_path(path)
    found = _of_folder(file, what) if file.is_dir() else _of_file(file, what)
    marks = sum(bool(t.marks) for photo in found.photos for t in photo.things)
    boxes = sum(t.box is not None for photo in found.photos for t in photo.things)
    if found.explicit and what == "marks":
        marks = len(found.photos) * len(found.parts)  # a table may say that nothing is marked yet
    if not (marks if what == "marks" else boxes):
        other = f"; it has {boxes or marks:,} {'boxes' if boxes else 'marked objects'}"
        if found.kind.startswith("YOLO") and what == "marks":
            other += "; keypoints in YOLO's files aren't read: give them as COCO"
        name = "landmarks" if what == "marks" else "boxes"
        raise ExplgraphError(
            f"{str(file)!r} holds no {name} ({found.kind}){other if boxes or marks else ''}"
        )
    return found


def _of_file(file: Path, what: What) -> Annotations:
    """Read a file."""
    suffix = file.suffix.lower()
    if suffix == ".json":
        return _of_json(file, read_json(file))
    if suffix == ".xml":
        root = read_xml(file)
        if root.tag == "annotations":
            return cvat.read(file, root)
        if root.tag == "annotation":
            return voc.read({file.name: file}, {file.name: root})
        raise ExplgraphError(
            f"{str(file)!r} begins with <{root.tag}>; expected <annotations> (CVAT) or "
            "<annotation> (Pascal VOC)"
        )
    if suffix == ".csv":
        return deeplabcut.read(file) if deeplabcut.is_deeplabcut(file) else tables.read_marks(file)
    if suffix == ".txt" and what == "marks":
        return cub.read_parts(file)
    if suffix == ".txt" and file.name == cub.BOXES:
        return cub.read_boxes(file)
    if suffix == ".txt":
        return yolo.read(file.parent, {file.name: file})
    kind = "landmark" if what == "marks" else "boxes"
    instead = _INSTEAD.get(suffix)
    raise ExplgraphError(
        f"can't tell the layout of the {kind} file {str(file)!r}: "
        + (instead or f"expected {_READ[what]}")
    )


def _of_json(file: Path, content: Any) -> Annotations:
    """Read a JSON file."""
    if coco.is_coco(content):
        return coco.read(file, content)
    if labelme.is_labelme(content):
        return labelme.read({file.name: file}, {file.name: content})
    if label_studio.is_label_studio(content):
        return label_studio.read(file, content)
    if isinstance(content, list) and content and isinstance(content[0], dict):
        results = "image_id" in content[0]
        raise ExplgraphError(
            f"{str(file)!r} is a list of "
            + (
                "COCO's results, which don't name their images; give a file with images, "
                "annotations and categories"
                if results
                else f"objects with {', '.join(map(repr, list(content[0])[:6]))}, which no format "
                "that is read has; of Label Studio export JSON or JSON-MIN"
            )
        )
    return tables.read_parts_json(file, content)


def _of_folder(folder: Path, what: What) -> Annotations:
    """Read what lies in a folder."""
    for at in (folder / "parts" / cub.PARTS, folder / cub.PARTS):
        if what == "marks" and at.is_file():
            return cub.read_parts(at)
    if what == "boxes" and (folder / cub.BOXES).is_file():
        return cub.read_boxes(folder / cub.BOXES)
    files = _files(folder)
    by_suffix: dict[str, dict[str, Path]] = {}
    for name, file in files.items():
        by_suffix.setdefault(file.suffix.lower(), {})[name] = file
    collected = [f for f in by_suffix.get(".csv", {}).values() if f.name.startswith("CollectedD")]
    if collected:
        return _together([deeplabcut.read(file) for file in collected], folder)
    if xml := by_suffix.get(".xml"):
        roots = {name: read_xml(file) for name, file in xml.items()}
        if videos := [n for n, root in roots.items() if root.tag == "annotations"]:
            return _together([cvat.read(xml[name], roots[name]) for name in videos], folder)
        roots = {name: root for name, root in roots.items() if root.tag == "annotation"}
        if roots:
            return voc.read(xml, roots)
    if json := by_suffix.get(".json"):
        contents = {name: read_json(file) for name, file in json.items()}
        ours = {name: c for name, c in contents.items() if labelme.is_labelme(c)}
        if ours:
            return labelme.read(json, ours)
        whole = [coco.read(json[name], c) for name, c in contents.items() if coco.is_coco(c)]
        if len(whole) == 1:
            return whole[0]
        if whole:
            raise ExplgraphError(f"{str(folder)!r} has {len(whole)} files of COCO; give one")
    texts = {n: f for n, f in by_suffix.get(".txt", {}).items() if _is_label(n)}
    if within := {n: f for n, f in texts.items() if "labels" in Path(n).parts}:
        texts = within
    if texts:
        return yolo.read(folder, texts)
    kind = "landmark" if what == "marks" else "boxes"
    raise ExplgraphError(
        f"the folder {str(folder)!r} holds no annotations; a {kind} file is {_READ[what]}"
    )


def _is_label(name: str) -> bool:
    """Whether a text file may be one of YOLO's."""
    return Path(name).name.lower() not in yolo.NOT_LABELS


def _files(folder: Path) -> dict[str, Path]:
    """List the files of a folder and its subfolders by path within it, without hidden ones."""
    found: dict[str, Path] = {}
    for at, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            file = Path(at) / name
            if not name.startswith("."):
                found[file.relative_to(folder).as_posix()] = file
    return found


def _together(several: Sequence[Annotations], folder: Path) -> Annotations:
    """Put files of one format together."""
    photos = [photo for one in several for photo in one.photos]
    names = [photo.name for photo in photos]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ExplgraphError(
            f"{str(folder)!r} has {len(several)} files that tell of {twice!r}; give one of them"
        )
    parts = tuple(dict.fromkeys(part for one in several for part in one.parts))
    return Annotations(several[0].kind, photos, parts)
