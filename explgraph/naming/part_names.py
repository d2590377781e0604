"""Which word of a list suits each part of a graph, if one does so beyond chance.

An image-text encoder (`encoders`) puts patches and words into one space. A part's patches are cut
at its exemplars; beside each, patches of the same image at other parts and at random places. A word
suits a part as far as it is nearer to the part's patches than to the others of the same images.

The best word becomes the part's name only if it beats two kinds of chance:

* *places*: in each image another patch is taken for the part's. Does the best word then suit as
  well? So it does if the encoder sees nothing at the part that is not elsewhere in the image.
* *words*: the words' vectors are turned at random, all alike. Do they then suit as well? So they do
  if the encoder tells the part from the rest, but by nothing that the words say.

The larger p-value of the two counts, corrected for the number of parts.

References
----------
Benjamini and Hochberg, "Controlling the false discovery rate" (JRSS B 1995).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from explgraph import rows as tables
from explgraph.errors import ExplgraphError
from explgraph.graph.graph import Graph
from explgraph.graph.parts import Part, find_part, renamed
from explgraph.markup import table
from explgraph.naming.encoders import Encoder
from explgraph.parsed import Parse, parts_in
from explgraph.parsed_parts import ParsedParts
from explgraph.progress import Shown, bar
from explgraph.views.pictures import (
    Drawable,
    Pictures,
    Sighting,
    part_side,
    part_sightings,
    patch,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PartName", "PartNames", "name_parts"]

Array = NDArray[np.float64]
G = TypeVar("G", bound=Graph)

_PATCHES = 16  # of a part
_ELSEWHERE = 6  # patches of the same image beside each: half at other parts, half anywhere
_LEAST_SIZE = 96  # px, of what the encoder gets
_BLOCK = 2**22  # numbers at a time


class PartName(NamedTuple):
    """The word that suits a part best.

    Attributes
    ----------
    part : str
        The part's id.
    word : str
        The best of the vocabulary; empty if the part was seen in none of the images.
    score : float
        How much nearer the word is to the part's patches than to others of the same images, in
        standard deviations of all these patches.
    p : float
        Probability that the best word suits so well by chance; 1 where the part wasn't seen.
    q : float
        The same, corrected for the number of parts.
    named : bool
        Whether the part has got the word as its name.
    why : str
        Why it hasn't; empty if it has.
    """

    part: str
    word: str
    score: float
    p: float
    q: float
    named: bool
    why: str


@dataclass(frozen=True)
class PartNames:
    """The best word for each part, and which became names.

    Attributes
    ----------
    rows : tuple of PartName
        In the order of ``graph.parts``.
    """

    rows: tuple[PartName, ...]

    def to_frame(self) -> pd.DataFrame:
        """Give one row per part as a pandas table, indexed by the part's id.

        Raises
        ------
        ExplgraphError
            If pandas isn't installed.
        """
        return tables.pandas().DataFrame(self.rows, columns=PartName._fields).set_index("part")

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a row for each part, whole or not at all: ``.csv``, ``.json`` or ``.parquet``.

        Raises
        ------
        ExplgraphError
            If the suffix isn't known or the file can't be written.
        """
        tables.write(path, tables.columns_of([row._asdict() for row in self.rows]))

    def __repr__(self) -> str:
        named = sum(row.named for row in self.rows)
        lines = [f"PartNames: {named} of {len(self.rows)} parts named"]
        lines += [
            f"  {row.part}: {row.word or '-'} (score {row.score:.2f}, q = {row.q:.3f})"
            + (f", not named: {row.why}" if row.why else "")
            for row in self.rows
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Show the rows in a notebook."""
        shown: list[list[object]] = [
            [r.part, r.word, f"{r.score:.2f}", f"{r.p:.3f}", f"{r.q:.3f}", r.why or "named"]
            for r in self.rows
        ]
        return table(["part", "best word", "score", "p", "q", ""], shown)


def name_parts(
    graph: G,
    encoder: Encoder,
    vocabulary: Sequence[str],
    images: Drawable,
    *,
    parse: Parse | None = None,
    side: float | None = None,
    fdr: float = 0.05,
    permutations: int = 999,
    overwrite: bool = False,
    batch_size: int = 64,
    seed: int = 0,
    progress: Shown = None,
) -> tuple[G, PartNames]:
    """Name the parts of a graph by words: see `ExplanatoryGraph.name_parts`."""
    words = _checked(vocabulary, encoder, fdr, permutations, batch_size)
    if not graph.parts:
        find_part(graph, "")  # says why there are none
    side = part_side(graph.image_size) if side is None else side
    if not 0 < side <= min(graph.image_size):
        raise ExplgraphError(
            f"side is {side!r}; expected a patch's side in px, above 0 and at most "
            f"{min(graph.image_size)}, as large as the image"
        )
    pictures = Pictures.of(images, graph.image_size, parse)
    found = None if parse is None else parts_in(graph, parse)
    rng = np.random.default_rng(seed)
    places = _Places(graph, pictures, found, side, rng)
    cut_at = {part.id: places.of(part) for part in graph.parts}
    seen = [part for part, at in cut_at.items() if len(at)]
    if not seen:
        raise ExplgraphError(
            "no part was seen in any of the images; give the images that the graph was mined from, "
            "or parse= of these"
        )
    texts = _encoded(encoder, "encode_texts", words)
    everything = np.concatenate([cut_at[part].reshape(-1, 3) for part in seen])
    encoded: list[Array] = []
    starts = bar(range(0, len(everything), batch_size), shown=progress, desc="naming", unit="batch")
    for start in starts:
        batch = _cut(pictures, everything[start : start + batch_size], side)
        encoded.append(_encoded(encoder, "encode_images", batch))
        if encoded[-1].shape[1] != texts.shape[1]:
            raise ExplgraphError(
                f"encoder gives {encoded[-1].shape[1]} numbers for an image and {texts.shape[1]} "
                "for a word; expected as many, of one space: take both from one model"
            )
    ends = np.cumsum([cut_at[part].shape[0] * (1 + _ELSEWHERE) for part in seen])[:-1]
    patches = [
        here.reshape(-1, 1 + _ELSEWHERE, texts.shape[1])
        for here in np.split(np.concatenate(encoded), ends)
    ]
    best, score, p = _tested(patches, texts, permutations, rng)
    return _decided(graph, words, seen, best, score, p, fdr, overwrite)


def _decided(
    graph: G,
    words: Sequence[str],
    seen: Sequence[str],
    best: Sequence[int],
    score: Array,
    p: Array,
    fdr: float,
    overwrite: bool,
) -> tuple[G, PartNames]:
    """Name the parts whose best word is no chance."""
    from scipy.stats import false_discovery_control  # takes a second to import

    kept = {part.id for part in graph.parts if part.name and not overwrite}
    tested = [k for k, part in enumerate(seen) if part not in kept]
    q = np.ones(len(seen))
    if tested:
        q[tested] = false_discovery_control(p[tested])
    number = {part: k for k, part in enumerate(seen)}
    rows, given = [], {}
    for part in graph.parts:
        if part.id not in number:
            rows.append(PartName(part.id, "", 0.0, 1.0, 1.0, False, "seen in none of the images"))
            continue
        k = number[part.id]
        why = ""
        if part.id in kept:
            why = f"is named {part.name!r}"
        elif q[k] > fdr:
            why = "no better than chance"
        if not why:
            given[part.id] = words[best[k]]
        rows.append(
            PartName(
                part.id, words[best[k]], float(score[k]), float(p[k]), float(q[k]), not why, why
            )
        )

    def name(copy: Graph) -> None:
        for part, word in given.items():
            renamed(copy, part, word)

    return graph._decided(name), PartNames(tuple(rows))


# ---------------------------------------------------------------------------------------- patches


class _Places:
    """Where patches of parts are cut, and beside them others of the same images."""

    def __init__(
        self,
        graph: Graph,
        pictures: Pictures,
        found: ParsedParts | None,
        side: float,
        rng: np.random.Generator,
    ) -> None:
        self.pictures = pictures
        self.found = found
        self.apart = side / 2
        self.rng = rng
        # by image: part, x, y of what is known to be there
        self.known: dict[int, list[tuple[str, float, float]]] = {}
        if found is not None:
            for n, name in enumerate(found.names):
                if name in pictures:
                    self.known[pictures.index(name)] = [
                        (part, *found.positions[n, k].tolist())
                        for k, part in enumerate(found.parts)
                        if found.presence[n, k] >= 0.5
                    ]
            return
        for node, seen in graph.top_images.items():
            if part := graph.nx.nodes[node].get("part", ""):
                for name, x, y, _ in seen:
                    if name in pictures:
                        self.known.setdefault(pictures.index(name), []).append((part, x, y))

    def of(self, part: Part) -> Array:
        """Give image, x and y of a part's patches and of those beside, (m, 1 + R, 3), px."""
        seen = part_sightings(part, self.pictures, self.found, _PATCHES)
        rows = [[(at.image, at.x, at.y), *self._elsewhere(part.id, at)] for at in seen]
        return np.array(rows, dtype=np.float64).reshape(len(seen), 1 + _ELSEWHERE, 3)

    def _elsewhere(self, part: str, at: Sighting) -> list[tuple[int, float, float]]:
        """Other places of an image: at other parts, and anywhere."""
        others: dict[str, list[tuple[float, float]]] = {}
        for other, x, y in self.known.get(at.image, []):
            if other != part and math.hypot(x - at.x, y - at.y) >= self.apart:
                others.setdefault(other, []).append((x, y))
        chosen = self.rng.permutation(sorted(others))[: _ELSEWHERE // 2].tolist()
        places = [
            (at.image, *others[other][self.rng.integers(len(others[other]))]) for other in chosen
        ]
        height, width = self.pictures.image_size
        while len(places) < _ELSEWHERE:
            # the farthest of some, where no place is far enough
            tried = self.rng.uniform((0, 0), (width, height), (8, 2))
            away = np.linalg.norm(tried - (at.x, at.y), axis=1)
            x, y = tried[int((away >= self.apart).argmax() if away.max() >= self.apart
                             else away.argmax())].tolist()  # fmt: skip
            places.append((at.image, x, y))
        return places


def _cut(pictures: Pictures, places: Array, side: float) -> list[Image.Image]:
    """Cut patches at image, x, y (n, 3); what lies outside an image mirrors it."""
    size = max(_LEAST_SIZE, round(side))
    margin = math.ceil(side / 2) + 1
    height, width = pictures.image_size
    cut = []
    for image, x, y in places.tolist():
        border = [(min(margin, height - 1),) * 2, (min(margin, width - 1),) * 2, (0, 0)]
        picture = np.pad(pictures[int(image)], border, mode="reflect")
        column, row = (
            min(max(x, 0.0), width) + border[1][0],
            min(max(y, 0.0), height) + border[0][0],
        )
        cut.append(Image.fromarray(patch(picture, column, row, side, size)[0]))
    return cut


# --------------------------------------------------------------------------------------- encoders


def _checked(
    vocabulary: Sequence[str], encoder: Encoder, fdr: float, permutations: int, batch_size: int
) -> list[str]:
    """Check what was asked for; give the words, each once."""
    if isinstance(vocabulary, str) or not all(isinstance(word, str) for word in vocabulary):
        raise ExplgraphError(
            f"vocabulary is {vocabulary!r}; expected a list of words, such as ['head', 'tail']"
        )
    words = list(dict.fromkeys(word.strip() for word in vocabulary))
    if not words or "" in words:
        raise ExplgraphError(
            f"vocabulary is {list(vocabulary)!r}; expected one word at least, and none that is "
            "empty"
        )
    if not isinstance(encoder, Encoder):
        raise ExplgraphError(
            f"encoder is {type(encoder).__name__}; expected an object with encode_images() and "
            "encode_texts(), such as explgraph.naming.encoders.OpenClip"
        )
    if not 0 < fdr < 1:
        raise ExplgraphError(f"fdr is {fdr!r}; expected a number above 0 and below 1")
    if not permutations >= 1 or not batch_size >= 1:
        raise ExplgraphError(
            f"permutations is {permutations!r}, batch_size {batch_size!r}; expected 1 at least"
        )
    return words


def _encoded(encoder: Encoder, method: str, things: Sequence[Any]) -> Array:
    """Encode images or words as vectors of unit length, (n, d)."""
    given: Any = getattr(encoder, method)(things)
    if hasattr(given, "detach"):  # a tensor
        given = given.detach().cpu().float().numpy()
    try:
        vectors = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as err:
        raise ExplgraphError(
            f"encoder.{method} gave {type(given).__name__}, no numbers; expected "
            f"({len(things)}, d) of them"
        ) from err
    if vectors.ndim != 2 or len(vectors) != len(things) or not vectors.shape[1]:
        raise ExplgraphError(
            f"encoder.{method} gave the shape {vectors.shape} for {len(things)} of them; expected "
            f"({len(things)}, d): a row for each"
        )
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    bad = ~np.isfinite(length[:, 0]) | (length[:, 0] == 0)
    if bad.any():
        which = int(bad.argmax())
        shown = f" ({things[which]!r})" if isinstance(things[which], str) else ""
        raise ExplgraphError(
            f"encoder.{method} gave row {which}{shown} NaN, infinite or nothing but 0; expected "
            "finite numbers; is the model in half precision on a CPU, or not loaded?"
        )
    unit: Array = vectors / length
    return unit


# ----------------------------------------------------------------------------------------- chance


def _tested(
    patches: Sequence[Array], texts: Array, permutations: int, rng: np.random.Generator
) -> tuple[list[int], Array, Array]:
    """Find the best word of each part, and how probable it is by chance.

    Parameters
    ----------
    patches : sequence of (m, 1 + R, d)
        By part: in each of m images, the part's patch and R others.
    texts : (W, d)

    Returns
    -------
    best : list of int
        Its word.
    score, p : (P,)
    """
    if len(texts) > 1:  # what all words have in common says nothing of any
        texts = texts - texts.mean(0)
    centred = [each - each.mean(1, keepdims=True) for each in patches]
    words, length, axes = np.linalg.svd(texts, full_matrices=False)
    held = length > 1e-9 * max(length[0], 1e-9)
    words, axes = words[:, held] * length[held], axes[held]  # texts = words @ axes
    best: list[int] = []
    score, hits = np.zeros(len(patches)), np.zeros((2, len(patches)))
    ahead, reached = [], np.zeros(len(patches))
    for k, each in enumerate(centred):
        suits = each @ texts.T
        ahead.append(each[:, 0].mean(0))  # what the part's patches have beyond the others
        best.append(int((ahead[k] @ texts.T).argmax()))
        reached[k] = ahead[k] @ texts[best[k]]
        score[k] = reached[k] / max(float(suits[..., best[k]].std()), 1e-12)
        for chance in _moved(suits, permutations, rng):
            hits[0, k] += (chance >= reached[k] - 1e-12).sum()
    for _ in range(permutations):
        turned, _ = np.linalg.qr(rng.standard_normal((texts.shape[1], len(axes))))
        hits[1] += (np.array(ahead) @ turned @ words.T).max(1) >= reached - 1e-12
    return best, score, ((1 + hits) / (1 + permutations)).max(0)


def _moved(suits: Array, permutations: int, rng: np.random.Generator) -> Iterator[Array]:
    """Give the best word's score with another patch of each image for the part's, by blocks."""
    m, others, words = suits.shape
    block = max(1, _BLOCK // max(m * words, 1))
    for start in range(0, permutations, block):
        which = rng.integers(others, size=(min(block, permutations - start), m))
        yield suits[np.arange(m), which].mean(1).max(-1)
