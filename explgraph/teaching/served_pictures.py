"""Images, thumbnails, patches as the page shows them: JPEG files, the last ones kept in memory."""

from __future__ import annotations

import io
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock

from PIL import Image

from explgraph.errors import ExplgraphError
from explgraph.views.pictures import Pictures, part_side, patch

__all__ = ["ServedPictures"]

_IMAGE = 1024  # px of the longer side: more than most windows give an image
_THUMBNAIL = 224  # twice what the page takes, for dense screens
_PATCH = 160
_QUALITY = 88
_KEPT = 64 * 2**20  # bytes in memory: some hundred images, or ten thousand thumbnails


class ServedPictures:
    """Pictures as JPEG files.

    Parameters
    ----------
    pictures : Pictures
    names : sequence of str
        Of the parse's rows: images may have another order, and there may be more.
    kept : int
        Bytes of the files that are kept in memory; the longest unused go first.
    """

    def __init__(self, pictures: Pictures, names: Sequence[str], kept: int = _KEPT) -> None:
        self._pictures = pictures
        self._rows = [pictures.index(name) for name in names]
        self._most = kept
        self._bytes = 0
        self._files: OrderedDict[tuple[object, ...], bytes] = OrderedDict()
        self._lock = Lock()

    def image(self, row: int) -> bytes:
        """Give an image in the photograph's own resolution, within 1024 px."""
        return self._made(("image", row), lambda: self._photograph(row, _IMAGE))

    def thumbnail(self, row: int) -> bytes:
        """Give an image within 224 px."""
        return self._made(("thumbnail", row), lambda: self._photograph(row, _THUMBNAIL))

    def patch(self, row: int, x: float, y: float) -> bytes:
        """Give what lies around a point (px of the image as the network saw it), 160 px wide."""
        if not (math.isfinite(x) and math.isfinite(y)):
            raise ExplgraphError(f"x, y are {x}, {y}; expected a place in the image, px")
        side = part_side(self._pictures.image_size)

        def cut() -> Image.Image:
            return Image.fromarray(patch(self._pictures[self._rows[row]], x, y, side, _PATCH)[0])

        return self._made(("patch", row, x, y), cut)

    def _photograph(self, row: int, longest: int) -> Image.Image:
        return self._pictures.photograph(self._rows[row], longest)

    def _made(self, key: tuple[object, ...], make: Callable[[], Image.Image]) -> bytes:
        with self._lock:
            if key in self._files:
                self._files.move_to_end(key)
                return self._files[key]
        written = io.BytesIO()
        make().convert("RGB").save(written, "JPEG", quality=_QUALITY)
        file = written.getvalue()
        with self._lock:
            if key not in self._files:
                self._files[key] = file
                self._bytes += len(file)
            while self._bytes > self._most and len(self._files) > 1:
                self._bytes -= len(self._files.popitem(last=False)[1])
        return file
