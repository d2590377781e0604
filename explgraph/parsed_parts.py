"""Where the parts of a graph are in images, and whether: pooled from a parse of its nodes.

A part's place is where its nodes' own places put it, by how much each says: a node that is present
moves the part as far as the node itself lies from where the pose expects it. Nodes count by their
presence, reliability, typicality and exactness. Where none is present the part is where the pose
puts it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from explgraph import rows
from explgraph.brief import counted, few
from explgraph.errors import ExplgraphError
from explgraph.graph.graph import Graph
from explgraph.graph.parts import parts_of, weights
from explgraph.suffixes import TABLES, check_suffix

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MOST_LOGIT", "ParsedParts", "Pooling"]

MOST_LOGIT = 50.0
"""Of a presence: beyond it, exponentials leave what numbers can hold."""

# what is usual counts as much as this share of a part's nodes, when its radius is told
_USUAL = 0.05


@dataclass(frozen=True, eq=False)
class ParsedParts:
    """Place, presence and radius of every part in some images.

    Attributes
    ----------
    parts : tuple of str
        Ids of the P parts.
    titles : tuple of str
        Their names, or "part 3".
    names : tuple of str
        Of the N images.
    positions : (N, P, 2) float32
        ``[x, y]`` px of the image as the network saw it; always finite.
    presence : (N, P) float32
        Whether the image shows the part, 0 to 1.
    radius : (N, P) float32
        How far the part's nodes scatter around the place in this image, px, root mean square.
    image_size : (int, int)
        ``(H, W)`` px.
    """

    parts: tuple[str, ...]
    titles: tuple[str, ...]
    names: tuple[str, ...]
    positions: NDArray[np.float32]
    presence: NDArray[np.float32]
    radius: NDArray[np.float32]
    image_size: tuple[int, int]
    _to_original: Callable[[int, NDArray[Any]], NDArray[Any]] | None = field(
        default=None, repr=False, compare=False
    )

    def to_original(self) -> NDArray[np.float64]:
        """Give positions in pixels of the original photographs, (N, P, 2).

        Raises
        ------
        ExplgraphError
            If the images weren't an `ImageFolder`.
        """
        if self._to_original is None:
            raise ExplgraphError(
                "to_original() needs the photographs' sizes: parse an explgraph.ImageFolder"
            )
        return np.stack([self._to_original(i, p) for i, p in enumerate(self.positions)])

    def to_frame(self) -> pd.DataFrame:
        """Give one row per image and part as a pandas table.

        Returns
        -------
        pandas.DataFrame
            Columns ``image``, ``part``, ``x``, ``y``, ``presence``, ``radius``.

        Raises
        ------
        ExplgraphError
            If pandas isn't installed.
        """
        return rows.pandas().DataFrame(self._columns())

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a row for each image and part, whole or not at all.

        Parameters
        ----------
        path : path
            ``.csv``, ``.json`` or ``.parquet``: the columns of `to_frame`, and ``photo_x`` and
            ``photo_y``, px of the original photograph, if the images were an `ImageFolder`.

        Raises
        ------
        ExplgraphError
            If the suffix isn't known or the file can't be written.
        """
        check_suffix(path, TABLES)
        columns = self._columns()
        if self._to_original is not None:
            photo = self.to_original()
            columns |= {"photo_x": photo[..., 0].ravel(), "photo_y": photo[..., 1].ravel()}
        rows.write(path, columns)

    def _columns(self) -> dict[str, NDArray[Any]]:
        values = {
            "x": self.positions[..., 0],
            "y": self.positions[..., 1],
            "presence": self.presence,
            "radius": self.radius,
        }
        return rows.grid(("image", self.names), ("part", self.parts), values)

    def __repr__(self) -> str:
        shares = zip(self.titles, (self.presence >= 0.5).mean(0), strict=True) if self.names else ()
        shown = few((f"{title} in {share:.0%}" for title, share in shares), 4)
        return (
            f"ParsedParts: {counted(len(self.parts), 'part')} in "
            f"{counted(len(self.names), 'image')}; {shown}"
        )


class Pooling(NamedTuple):
    """How the parts of a graph are pooled from its V nodes.

    Attributes
    ----------
    parts, titles : tuple of str
    member : (V,) int64
        Number of each node's part, -1 for none.
    weight : (V,)
        How much a node says of presence.
    sigma : (V,)
        px.
    offset, slope : (P,)
        Of the presence: see `graph.parts.RECORD`.
    """

    parts: tuple[str, ...]
    titles: tuple[str, ...]
    member: NDArray[np.int64]
    weight: NDArray[np.float64]
    sigma: NDArray[np.float64]
    offset: NDArray[np.float64]
    slope: NDArray[np.float64]

    @classmethod
    def of(cls, graph: Graph) -> Pooling:
        """Read it off a graph."""
        parts = parts_of(graph)
        number = {part.id: k for k, part in enumerate(parts)}
        records = {record["id"]: record for record in graph.nx.graph.get("parts", [])}
        nodes = list(graph.nx.nodes.values())
        return cls(
            tuple(part.id for part in parts),
            tuple(part.title for part in parts),
            np.array([number.get(values.get("part", ""), -1) for values in nodes], dtype=np.int64),
            weights(graph),
            np.array([max(values["sigma"], 1e-6) for values in nodes]),
            np.array([records[part.id]["offset"] for part in parts]),
            np.array([records[part.id]["slope"] for part in parts]),
        )

    def of_part(self, k: int) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """Give the numbers of a part's nodes, and how much each says of presence and of place."""
        mine = np.flatnonzero(self.member == k)
        weight = self.weight[mine]
        if not weight.sum() > 0:
            weight = np.ones(len(mine))
        return mine, weight, weight / np.square(self.sigma[mine])

    def __call__(
        self,
        positions: NDArray[np.floating],
        expected: NDArray[np.floating],
        scores: NDArray[np.floating],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Pool nodes' places (n, V, 2), expected ones and scores (n, V).

        Returns
        -------
        positions, presence, radius : (n, P, 2), (n, P), (n, P)
        """
        n, p = len(scores), len(self.parts)
        place, there, radius = np.empty((n, p, 2)), np.empty((n, p)), np.empty((n, p))
        for k in range(p):
            mine, weight, exact = self.of_part(k)
            score = scores[:, mine].astype(np.float64)
            there[:, k] = score @ weight / weight.sum()
            usual = np.einsum("v,nvi->ni", exact, expected[:, mine]) / exact.sum()
            votes = (positions[:, mine] - expected[:, mine]).astype(np.float64)
            much = score * exact
            total = much.sum(1)
            move = np.einsum("nv,nvi->ni", much, votes) / np.maximum(total, 1e-12)[:, None]
            place[:, k] = usual + move
            scatter = (much * np.square(votes - move[:, None]).sum(-1)).sum(1)
            prior = _USUAL * exact.sum()
            spread = 2 * (exact @ np.square(self.sigma[mine])) / exact.sum()
            radius[:, k] = np.sqrt((scatter + prior * spread) / (total + prior))
        logit = np.clip(self.offset + self.slope * there, -MOST_LOGIT, MOST_LOGIT)
        presence = 1 / (1 + np.exp(-logit))
        return place.astype(np.float32), presence.astype(np.float32), radius.astype(np.float32)
