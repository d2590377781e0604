"""Which photographs of a folder are meant by the names that annotation programs give them.

A name fits a file if the one is the end of the other, folder by folder: ``train2017/1.jpg`` is
``1.jpg`` of a folder, and ``1.jpg`` is ``birds/1.jpg``. Of several files that of the very name is
meant, else the one whose whole path agrees furthest; two that agree as far are refused.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from explgraph.annotations.annotated import Photo
from explgraph.errors import ExplgraphError, nearest, warn

__all__ = ["check_size", "find_photos"]


_EXACT = 1 << 20  # by how many folders a name agrees with the file that has the very name


def find_photos(
    photos: Sequence[Photo], files: Collection[str], folder: Path, what: str
) -> dict[int, str]:
    """Find the files of photographs.

    Parameters
    ----------
    photos : sequence of Photo
    files : collection of str
        Paths within `folder`, with ``/``.
    folder : Path
    what : str
        "boxes", say, for messages.

    Returns
    -------
    dict of int to str
        Files, by index of the photograph, of those that were found.

    Raises
    ------
    ExplgraphError
        If none is found, or one name fits several files, or several names one file.

    Warns
    -----
    ExplgraphWarning
        If some are not found, or are found by their last name though folders differ.
    """
    root = tuple(PurePosixPath(Path(os.path.abspath(folder)).as_posix()).parts)
    by_name: dict[str, list[str]] = {}
    by_stem: dict[str, list[str]] = {}
    for file in files:
        last = file.rsplit("/", 1)[-1]
        by_name.setdefault(last, []).append(file)
        by_stem.setdefault(_stem(last), []).append(file)
    meant: dict[str, list[tuple[int, int]]] = {}  # how far it agrees, and which photograph
    apart: dict[int, str] = {}  # names that agree in the last part alone
    for index, photo in enumerate(photos):
        for name, known in [(n, by_name) for n in photo.names] + [
            (n, by_stem) for n in photo.stems
        ]:
            parts = _parts(name)
            fitting, far = _fitting(parts, known, root, stem=known is by_stem)
            if fitting is not None:
                meant.setdefault(fitting, []).append((far, index))
                if far == 1 < len(parts) and known is by_name:
                    apart[index] = name
                break
    found: dict[int, str] = {}
    for file, claims in meant.items():
        claims.sort(key=lambda claim: (-claim[0], claim[1]))
        if len(claims) > 1 and claims[0][0] == claims[1][0]:
            both = " and ".join(repr(photos[index].name) for _, index in claims[:2])
            raise ExplgraphError(
                f"{what} of {both} are both of {file!r}, as far as names tell; give the folder "
                "above, so that they can be told apart"
            )
        found[claims[0][1]] = file
    strays = [photo.name for index, photo in enumerate(photos) if index not in found]
    if not found:
        raise ExplgraphError(
            f"none of the {len(files)} images has {what}: they are named like {_first(files)}, "
            f"those of the {what} like {_first(strays)}"
        )
    if strays:
        listed = ", ".join(map(repr, strays[:3])) + (", ..." if len(strays) > 3 else "")
        warn(
            f"{what} of {len(strays)} of {len(photos)} images are left out, since no image has "
            f"their name: {listed}{nearest(strays[0], list(files)[:10_000])}"
        )
    if alike := [index for index in found if index in apart]:
        warn(
            f"{what} of {len(alike)} images were found by the ends of their names alone, such as "
            f"{found[alike[0]]!r} of {str(folder)!r} for {apart[alike[0]]!r}"
        )
    return found


def _fitting(
    parts: Sequence[str], known: dict[str, list[str]], root: Sequence[str], *, stem: bool
) -> tuple[str | None, int]:
    """Give the file that a name fits, and by how many folders and names they agree."""
    best: list[str] = []
    most = 0
    for file in known.get(parts[-1], ()) if parts else ():
        own = _parts(file)
        whole = [*root, *own]
        if stem:
            whole[-1] = _stem(whole[-1])
        far = 0
        for a, b in zip(reversed(parts), reversed(whole), strict=False):
            if a != b:
                break
            far += 1
        if own == parts and not stem:
            return file, _EXACT
        if far < min(len(parts), len(own)) or far < most:
            continue
        best = [file] if far > most else [*best, file]
        most = far
    if len(best) > 1:
        raise ExplgraphError(
            f"{'/'.join(parts)!r} may be {best[0]!r} or {best[1]!r}; give the folder that its name "
            "begins in, or rename one"
        )
    return (best[0], most) if best else (None, 0)


def _parts(name: str) -> list[str]:
    """Give the folders and the name of a path, however it is written."""
    return [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]


def _stem(last: str) -> str:
    """Take the suffix away."""
    return last.rsplit(".", 1)[0] if "." in last[1:] else last


def _first(names: Collection[str]) -> str:
    """Quote the first name, if there is one."""
    return repr(next(iter(names), "(no names)"))


def check_size(name: str, told: tuple[int, int] | None, true: tuple[int, int] | None) -> None:
    """Refuse what was marked in a photograph of another size.

    Raises
    ------
    ExplgraphError
        If both sizes are known, and they differ.
    """
    if told is None or true is None or told == true:
        return
    turned = told == (true[1], true[0])
    raise ExplgraphError(
        f"{name!r} is {true[0]} x {true[1]} px, but was marked as {told[0]} x {told[1]}; "
        + (
            "the program seems not to have turned it the right way up (EXIF): save the photographs "
            "upright and mark those"
            if turned
            else "give the photographs that were marked, not resized ones"
        )
    )
