"""Where parts are in images: what a localizer answers, and how that is written and read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from explgraph import rows
from explgraph.brief import counted, few
from explgraph.errors import ExplgraphError
from explgraph.evaluation.landmarks import Landmarks

__all__ = ["Located"]

_LIKELY_ABSENT = 0.5  # a presence below it: the part is more likely absent than there

Array = NDArray[np.float64]
_DIGITS = 3


@dataclass(frozen=True, eq=False)
class Located:
    """Where parts are in N images.

    Attributes
    ----------
    names : tuple of str
        Of the images.
    positions : dict of str to (N, 2) float64
        ``[x, y]`` px of the image as the network saw it.
    uncertainty : dict of str to (N,) float64
        px: the radius within which the part lies in nine images of ten.
    presence : dict of str to (N,) float64
        How probable it is that the part is there, in [0, 1], calibrated to the share of images
        without it in `Localizer.fit`; NaN for parts whose absence was never told.
    photo : dict of str to (N, 2) float64, or None
        Positions in pixels of the original photographs, if an `ImageFolder` was parsed.
    """

    names: tuple[str, ...]
    positions: dict[str, Array]
    uncertainty: dict[str, Array]
    presence: dict[str, Array]
    photo: dict[str, Array] | None = None

    def __repr__(self) -> str:
        usual = {part: float(np.median(values)) for part, values in self.uncertainty.items()}
        shown = few(f"{part} within {radius:.0f} px" for part, radius in usual.items())
        return (
            f"Located: {counted(len(usual), 'part')} in {counted(len(self.names), 'image')}; "
            f"{shown}"
        )

    def __iter__(self) -> Iterator[dict[str, Array]]:
        """Give ``positions, uncertainty``, which is what most ask for."""
        return iter((self.positions, self.uncertainty))

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a row for each part and image: ``.csv``, ``.json`` or ``.parquet``.

        Columns are ``part``, ``image``, ``x``, ``y``, ``uncertainty``, ``presence`` (empty where
        it isn't known) and, if there are photographs, ``photo_x`` and ``photo_y``.

        Raises
        ------
        ExplgraphError
            If the suffix isn't known, the file can't be written, or it is a .parquet and pandas
            and pyarrow aren't there.
        """
        values = {
            **_columns("", self.positions),
            "uncertainty": np.stack(list(self.uncertainty.values())),
            "presence": np.stack(list(self.presence.values())),
            **({} if self.photo is None else _columns("photo_", self.photo)),
        }
        if str(path).lower().endswith(".csv"):  # for people to read: uncertainties are pixels
            values = {name: np.round(numbers, _DIGITS) for name, numbers in values.items()}
        rows.write(path, rows.grid(("part", [*self.positions]), ("image", self.names), values))

    def landmarks(self) -> Landmarks:
        """Give the places as landmarks, in pixels of the photographs, to be written as marks.

        ``located.landmarks().write("marks.json", images)`` writes COCO keypoints, which annotation
        programs open, so that people can mend what is off. Parts that are more likely absent than
        there (`presence` below 0.5) are left unmarked.

        Raises
        ------
        ExplgraphError
            If no `ImageFolder` was parsed, so that there are no photographs.
        """
        if self.photo is None:
            raise ExplgraphError("landmarks are in photographs: parse an explgraph.ImageFolder")
        parts = {
            part: np.where((self.presence[part] < _LIKELY_ABSENT)[:, None], np.nan, places)
            for part, places in self.photo.items()
        }
        return Landmarks(self.names, parts)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Located:
        """Read what `write` wrote.

        Raises
        ------
        ExplgraphError
            If the file can't be read or isn't such a table.
        """
        photo = ("photo_x", "photo_y")
        kinds = dict.fromkeys(("x", "y", "uncertainty", "presence", *photo), float)
        parts, names, table = rows.read_grid(
            path, ("part", str), ("image", str), kinds,
            gaps=("presence",), optional=photo,
        )  # fmt: skip

        def places(*keys: str) -> dict[str, Array]:
            values = np.stack([table[key] for key in keys], axis=-1)
            return dict(zip(parts, values, strict=True))

        return cls(
            names,
            places("x", "y"),
            dict(zip(parts, table["uncertainty"], strict=True)),
            dict(zip(parts, table["presence"], strict=True)),
            places(*photo) if table.keys() >= {*photo} else None,
        )


def _columns(prefix: str, places: Mapping[str, Array]) -> dict[str, Array]:
    """Give places (N, 2) by part as (parts, N) of x and of y."""
    both = np.stack(list(places.values()))
    return {f"{prefix}x": both[..., 0], f"{prefix}y": both[..., 1]}
