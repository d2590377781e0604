"""How large a photograph is, by the head of its file alone."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

__all__ = ["photo_size"]

_ORIENTATION = 0x0112  # the EXIF tag; from 5 on, the photograph lies on its side
_ON_ITS_SIDE = (5, 6, 7, 8)


def photo_size(path: Path) -> tuple[int, int] | None:
    """Give (width, height) px, the right way up (EXIF); None if the file can't be read."""
    try:
        with Image.open(path) as photo:
            width, height = photo.size
            lying = photo.getexif().get(_ORIENTATION, 1) in _ON_ITS_SIDE
    except Exception:  # Pillow's readers raise almost anything for broken files
        return None
    return (height, width) if lying else (width, height)
