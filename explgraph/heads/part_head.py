"""`PartHead`: a classifier on what a graph's parts are and look like in an image.

1. The network runs as far as the mined layers, and the graph's nodes are found in their maps with
   gradients (`seen_nodes`).
2. Of every part a few *looks* are taken, linear in its nodes' scores (`looks`).
3. Each class's score is linear in the looks, and so in nodes: ``bias + sum_f weight_f look_f``.
   What a part adds is the sum over its looks; there is nothing else (`PartHead.contributions`).

Looks are learnt from images without labels, weights from few labelled images by convex optimisation
(`explgraph.statistics.sparse_logistic`): few looks are of use, and each weight is a sentence.

What the features are was chosen by measurement (`benchmarks/part_head.py`; families of creatures
from 15 labelled images): looks rather than parts' presences (errors 0.15 and 0.27), which don't
tell how a part looks; rather than nodes (0.34), of which hundreds say the same; unscaled rather
than each of variance 1 (0.35), since what many nodes see deserves to be believed first; without
places (nodes' scores with them 0.39, without 0.32, by the same plain fit).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from explgraph.brief import counted, few
from explgraph.errors import ExplgraphError, nearest
from explgraph.explaining.by_part import By, check_by
from explgraph.fed_images import FedImages
from explgraph.graph.graph import Graph, check_graph
from explgraph.graph.parts import find_part
from explgraph.heads import head_archive
from explgraph.heads.looks import Looks, find_looks, numbered
from explgraph.heads.place_loss import checked_marks, place_loss
from explgraph.heads.seen_nodes import NodeFinder, PartPlaces, SeenNodes
from explgraph.heads.sentences import Sentence, report, sentences
from explgraph.images.batches import AnyImages
from explgraph.network.class_names import attribute
from explgraph.network.hooks import catch, split_layer
from explgraph.network.map_formats import read_maps
from explgraph.network.wrappers import Around, bare
from explgraph.parsed import Parse, parts_in
from explgraph.parsed_parts import Pooling
from explgraph.parsing import parse as parsed
from explgraph.parsing import with_weights
from explgraph.progress import Shown
from explgraph.statistics import sparse_logistic
from explgraph.whole_numbers import whole

__all__ = ["HeadOutput", "PartHead"]

Label = int | str | None

_LOW, _HIGH = 10, 90  # percentiles between which a look usually varies


class HeadOutput(NamedTuple):
    """What a head gives for n images, of one run of the network.

    Attributes
    ----------
    scores : (n, K)
        Of the classes.
    places : (n, P, 3)
        x, y (px) and presence (0 to 1) of each of `PartHead.titles`.
    maps : dict of str to (n, C, H, W)
        Rectified, by layer: for `explgraph.FilterLoss`.
    """

    scores: Tensor
    places: Tensor
    maps: dict[str, Tensor]


class PartHead(Around):
    """A classifier that reads parts: scores of classes, linear in what parts show.

    A module like any other: it gives scores ``(n, K)``, its parameters are the network's and its
    own ``weight`` and ``bias``, gradients run to all of them. `fit` makes weights of few labelled
    images; a training loop of your own can train the network together with them.

    Parameters
    ----------
    model : torch.nn.Module
        The network that was mined. It is taken in, not copied.
    graph : ExplanatoryGraph
    classes : sequence of str
        Names of the K classes, two at least.
    by : "part" or "node"
        Read parts by their looks, or every node by its score.
    parts : sequence of str, optional
        Read these parts alone, by id, name or title; by default all.

    Attributes
    ----------
    titles : tuple of str
        What `places` gives, in its order: titles of parts, or ids of nodes.

    Raises
    ------
    ExplgraphError
        If the graph has no parts or lacks a named one, the model lacks one of its layers, or
        classes aren't two names at least.

    Examples
    --------
    >>> head = explgraph.PartHead(model, graph, ["beast", "dragon"])  # doctest: +SKIP
    >>> head.fit(images, labels)  # doctest: +SKIP
    >>> print(head)  # doctest: +SKIP
    """

    directions: Tensor
    usual: Tensor

    def __init__(
        self,
        model: nn.Module,
        graph: Graph,
        classes: Sequence[str],
        *,
        by: By = "part",
        parts: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        check_graph(graph)
        if not isinstance(model, nn.Module):
            raise ExplgraphError(f"model must be a torch.nn.Module, got {type(model).__name__}")
        for layer in graph.layers:
            split_layer(model, layer.name)
        check_by(by)
        self.model, self.graph, self.by = model, graph, by
        self.class_names = _classes(classes)
        if (ready := attribute(bare(model), "preprocessing")) is not None:
            self.preprocessing = ready
        pooling = Pooling.of(graph)
        of = pooling.member.tolist()
        known = {part: k for k, part in enumerate(pooling.parts)}
        if parts is None:
            kept = list(range(len(known)))
        else:
            if not isinstance(parts, Iterable):
                raise ExplgraphError(f"parts is {parts!r:.80}; expected a list of names or ids")
            named = [parts] if isinstance(parts, str) else list(parts)
            kept = list(dict.fromkeys(known[find_part(graph, part).id] for part in named))
        if by == "node" and parts is None:
            self._rows = list(range(len(of)))
        else:
            self._rows = [v for v, k in enumerate(of) if k in kept]
        if not self._rows:
            raise ExplgraphError(
                "the graph has no parts that a head could read; mine more images or layers, or "
                "read nodes (by='node')"
            )
        self._kept, self._ids = kept, tuple(graph.node_ids[v] for v in self._rows)
        self._parts = tuple(pooling.parts[k] for k in kept)
        self._member = [kept.index(of[v]) for v in self._rows] if by == "part" else []
        self.titles = tuple(pooling.titles[k] for k in kept) if by == "part" else self._ids
        self._looks = numbered(self._member, len(kept)) if by == "part" else []
        features = len(self._looks) if by == "part" else len(self._rows)
        # places are pooled from all nodes of a part, and those of no part are of no use then
        self._finder = NodeFinder(graph, graph.node_ids)
        self._places = PartPlaces(pooling)
        self.weight = nn.Parameter(torch.zeros(features, len(self.class_names)))
        self.bias = nn.Parameter(torch.zeros(len(self.class_names)))
        rows = len(self._rows) if by == "part" else 0
        self.register_buffer("directions", torch.zeros(rows, features if rows else 0))
        self.register_buffer("usual", torch.zeros(len(self._rows)))
        self._swing = np.zeros((2, features))
        self._there = np.ones(features, dtype=np.bool_)
        self._ends: list[tuple[str, str]] = [("", "")] * features
        self.strength, self.left_out = float("nan"), float("nan")
        self._held: dict[bytes, Tensor] | None = None
        self.train(model.training)

    def __repr__(self) -> str:
        return self._told()

    def __str__(self) -> str:
        return self.report()

    # -------------------------------------------------------------------------- as a network

    def look(self, images: Tensor, **further: Any) -> HeadOutput:
        """Give scores, places and maps of one run: for training loops that need several.

        Parameters
        ----------
        images : (n, C, H, W)
            Of the size that was mined.
        **further
            What the network takes beside images.
        """
        seen, maps = self._seen(images, further)
        return HeadOutput(self._scores(seen.scores), self._where(seen), maps)

    def forward(self, images: Tensor, **further: Any) -> Tensor:
        """Give the scores (n, K) of images (n, C, H, W)."""
        return self._scores(self._seen(images, further)[0].scores)

    def places(self, images: Tensor, **further: Any) -> Tensor:
        """Give x, y (px) and presence (0 to 1) of each of `titles`, (n, P, 3), with gradients."""
        return self._where(self._seen(images, further)[0])

    def contributions(self, images: Tensor, **further: Any) -> Tensor:
        """Give what each of `titles` adds to the scores, (n, P, K).

        With ``bias`` they sum to the scores exactly. The zero is what is usual: a part that is as
        in the mean of the images that the head was fitted to adds nothing.
        """
        added = self._features(self._seen(images, further)[0].scores)[..., None] * self.weight
        if self.by == "node":
            return added
        of = torch.tensor([part for part, _ in self._looks], device=added.device)
        whole = added.new_zeros(len(added), len(self._kept), added.shape[2])
        return whole.index_add(1, of, added)

    def place_loss(
        self, places: Tensor, marks: Mapping[str, ArrayLike | Tensor] | Tensor
    ) -> Tensor:
        """Give how far parts are from where people marked them: see `heads.place_loss`.

        Parameters
        ----------
        places : (n, P, 3)
            As `places` or `look` gives them.
        marks : mapping of str to (n, 2), or (n, P, 2)
            px of the image as the network sees it, by a part's id, name or title; NaN = unmarked.
        """
        if not isinstance(places, Tensor) or places.ndim != 3:
            got = tuple(places.shape) if isinstance(places, Tensor) else type(places).__name__
            raise ExplgraphError(f"places must be (n, P, 3), as head.places gives them, got {got}")
        return place_loss(places, self._marks(marks, len(places)), self.graph.image_size)

    def _seen(self, images: Tensor, further: Mapping[str, Any]) -> tuple[SeenNodes, dict[str, Any]]:
        """Run the network as far as needed and find the nodes."""
        known = isinstance(images, Tensor)
        if not known or images.ndim != 4 or tuple(images.shape[2:]) != self.graph.image_size:
            height, width = self.graph.image_size
            raise ExplgraphError(
                f"images must be a tensor (n, C, {height}, {width}), as they were mined, got "
                f"{f'{tuple(images.shape)}; resize them' if known else type(images).__name__}"
            )
        formats = {layer.name: layer.format for layer in self.graph.layers}

        def keep(layer: str, output: Any) -> Tensor:
            maps = read_maps(output, len(images), formats[layer], layer)
            return maps.to(torch.promote_types(maps.dtype, torch.float32)).relu()

        batch = FedImages.of(images, further) if further else images
        maps, _ = catch(self.model, batch, list(formats), keep)
        return self._finder(maps, self._poses(images, maps)), maps

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Hold poses: what parts add is asked of the pose that the image itself shows.

        Otherwise taking one part away would move where all others are looked for.
        """
        before, self._held = self._held, {}
        try:
            yield
        finally:
            self._held = before

    def _poses(self, images: Tensor, maps: Mapping[str, Tensor]) -> Tensor:
        """Read the poses; while questions are asked each image has that of its first run."""
        if self._held is None:
            return self._finder.poses(maps)
        keys = [_key(image) for image in images]
        if any(key not in self._held for key in keys):
            for key, pose in zip(keys, self._finder.poses(maps), strict=True):
                self._held.setdefault(key, pose)
        return torch.stack([self._held[key] for key in keys])

    def _features(self, scores: Tensor) -> Tensor:
        """Give the looks, or the nodes' scores, less what is usual, (n, F)."""
        moved = scores[:, self._rows].to(self.usual) - self.usual
        return moved @ self.directions if self.by == "part" else moved

    def _scores(self, scores: Tensor) -> Tensor:
        return self._features(scores) @ self.weight + self.bias

    def _where(self, seen: SeenNodes) -> Tensor:
        if self.by == "part":
            return self._places(seen)[:, self._kept]
        rows = self._rows
        return torch.cat([seen.positions[:, rows], seen.scores[:, rows, None]], -1)

    def _marks(self, marks: Mapping[str, Any] | Tensor, n: int) -> Tensor:
        """Give marks (n, P, 2) as a tensor; NaN where there are none."""
        shape = (n, len(self.titles), 2)
        if isinstance(marks, Mapping):
            known = torch.full(shape, float("nan"))
            for name, given in marks.items():
                column = self._column(name)
                known[:, column] = torch.from_numpy(checked_marks(given, n, f"marks of {name!r}"))
            return known
        if not isinstance(marks, Tensor) or marks.shape != shape:
            got = tuple(marks.shape) if isinstance(marks, Tensor) else type(marks).__name__
            raise ExplgraphError(
                f"marks must be (n, P, 2) = {shape} px, or a mapping from parts to ({n}, 2), got "
                f"{got}"
            )
        return marks

    def _column(self, name: str) -> int:
        """Find one of `titles`."""
        if name in self.titles:
            return self.titles.index(name)
        if self.by == "part":
            part = find_part(self.graph, name).id
            if part in self._parts:
                return self._parts.index(part)
        raise ExplgraphError(
            f"the head reads no {name!r}{nearest(str(name), self.titles)}; see head.titles"
        )

    # ------------------------------------------------------------------------------- fitting

    def fit(
        self,
        images: AnyImages | Parse,
        labels: Sequence[Label],
        *,
        strength: float | None = None,
        batch_size: int = 32,
        device: str = "auto",
        progress: Shown = None,
    ) -> PartHead:
        """Learn looks from all images, and weights from those that have a label.

        Parameters
        ----------
        images : path of a folder, ImageFolder, (N, C, H, W) tensor, Dataset, DataLoader, or Parse
            Some dozens at least tell what varies, five of each class what tells the classes. A
            parse of the graph saves running the network.
        labels : sequence of int, str or None
            Each image's class, by number or name; None where nobody labelled it.
        strength : float, optional
            Of the penalty: the larger, the fewer looks are of use. By default that by which images
            that are left out are told best.
        batch_size, device, progress
            As for `ExplanatoryGraph.parse`.

        Returns
        -------
        PartHead
            Itself. `left_out` is the share of labelled images that it told right when they were
            left out, NaN if `strength` was given.

        Raises
        ------
        ExplgraphError
            If labels aren't one for each image, name no class or fewer than two images of one, or
            the parse is of another graph.
        """
        if isinstance(images, Parse):
            parse = images
        else:
            # not a method of graphs, for graphs know nothing of parsing below `explanatory_graph`
            parse = parsed(
                self.model, self.current_graph(), images,
                batch_size=batch_size, device=device, progress=progress,
            )  # fmt: skip
        if parse.nodes != self.graph.node_ids:
            raise ExplgraphError(
                f"the parse is of {len(parse.nodes):,} nodes, the head's graph has "
                f"{len(self.graph):,} or others; parse with the head's graph"
            )
        classes = self._numbers(labels, len(parse.names))
        scores = parse.scores[:, self._rows].astype(np.float64)
        told = np.flatnonzero(classes >= 0)
        if self.by == "part":
            present = parts_in(self.graph, parse).presence[:, self._kept]
            looks = find_looks(scores, self._member, present.astype(np.float64))
        else:
            looks = Looks(np.eye(len(self._rows)), np.ones(len(self._rows), dtype=np.bool_))
        features = scores @ looks.directions
        k = len(self.class_names)
        mine = features[told], classes[told], k
        self.left_out = float("nan")
        if strength is None:
            choice = sparse_logistic.chosen(*mine)
            strength, self.left_out = choice.strength, choice.right
        elif (
            isinstance(strength, bool)
            or not isinstance(strength, (int, float, np.floating))
            or not 0 < strength < np.inf
        ):
            raise ExplgraphError(f"strength must be a number above 0, got {strength!r:.80}")
        found = sparse_logistic.fitted(*mine, strength)
        self.strength = strength
        self._swing = np.percentile(features, (_LOW, _HIGH), axis=0)
        self._there = looks.presence
        order = features.argsort(0, kind="stable")
        self._ends = [(parse.names[one[0]], parse.names[one[-1]]) for one in order.T]
        with torch.no_grad():
            if self.by == "part":
                self.directions.copy_(torch.from_numpy(looks.directions))
            self.usual.copy_(torch.from_numpy(scores[told].mean(0)))
            self.weight.copy_(torch.from_numpy(found.weight))
            self.bias.copy_(torch.from_numpy(found.bias))
        return self

    def _numbers(self, labels: Sequence[Label], n: int) -> NDArray[np.int64]:
        """Give labels as numbers of classes, -1 for none."""
        if hasattr(labels, "tolist"):  # of arrays, tensors and tables
            labels = labels.tolist()
        if isinstance(labels, (str, bytes, Mapping)) or not isinstance(labels, Iterable):
            raise ExplgraphError(
                f"labels is {labels!r:.80}; expected a class for each image, None where there is "
                "none"
            )
        given = list(labels)
        if len(given) != n:
            raise ExplgraphError(
                f"labels holds {len(given)}, but there are {counted(n, 'image')}; give one for "
                "each, None where there is none"
            )
        found = np.full(n, -1, dtype=np.int64)
        for i, label in enumerate(given):
            if label is None:
                continue
            if isinstance(label, str):
                if label not in self.class_names:
                    raise ExplgraphError(
                        f"labels: {label!r} is no class{nearest(label, self.class_names)}; there "
                        f"are {', '.join(self.class_names)}"
                    )
                found[i] = self.class_names.index(label)
            elif (
                isinstance(label, Integral)
                and not isinstance(label, bool)
                and 0 <= int(label) < len(self.class_names)
            ):
                found[i] = int(label)
            else:
                raise ExplgraphError(
                    f"labels: {label!r} is neither the name of a class, nor a number below "
                    f"{len(self.class_names)}, nor None"
                )
        count = np.bincount(found[found >= 0], minlength=len(self.class_names))
        if count.min() < 2:
            rare = int(count.argmin())
            raise ExplgraphError(
                f"labels: {counted(int(count[rare]), 'image')} of {self.class_names[rare]}; each "
                "class needs two at least, so that one can be left out"
            )
        return found

    def current_graph(self) -> Graph:
        """Give the graph that the head looks with, as one of the network as it is now.

        The same nodes and parameters; where the network was trained, with its present weights in
        the place of those that were mined, so that `explain` and `parse` take them for one another.
        Whether the nodes still sit at what they sat at is to be measured
        (`explgraph.evaluation.metrics.tracking`); mining anew is always right.
        """
        return with_weights(self.graph, self)

    # ------------------------------------------------------------------------------- reading

    def sentences(self, most: int | None = None) -> tuple[Sentence, ...]:
        """Say what the weights say, the weightiest first, `most` for each class.

        Returns
        -------
        tuple of Sentence
            Of every look that is of use. ``effect`` is what the score gains while the look goes
            from its usual low to its usual high (tenth and ninetieth percentile).
        """
        if most is not None:
            whole(most, "most", 0)
        weight = self.weight.detach().cpu().double().numpy()
        if self.by == "part":
            called = [(self.titles[part], self._parts[part], k) for part, k in self._looks]
        else:
            called = [(node, node, 0) for node in self._ids]
        swing = self._swing[1] - self._swing[0]
        return sentences(
            self.class_names, called, weight * swing[:, None], self._there, self._ends, most
        )

    def report(self, most: int = 6) -> str:
        """Tell what the head is, and its first sentences for each class."""
        weighted = bool(self.weight.detach().any())
        return report(self._told(), self.sentences(most), weighted=weighted)

    def _told(self) -> str:
        """Say in a line what the head is."""
        told = f"PartHead: {few(self.class_names)} by {counted(len(self.titles), self.by)}"
        if not np.isnan(self.left_out):
            told += f"; {self.left_out:.0%} of labelled images right when left out"
        return told

    # --------------------------------------------------------------------------------- files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write what was fitted to one file, which `load` opens; the network isn't in it.

        Raises
        ------
        ExplgraphError
            If the file can't be written.
        """
        weight, bias, directions, usual = (
            getattr(self, name).detach().cpu().double().numpy() for name in _OF_MODULE
        )
        kept = head_archive.Kept(
            self.class_names, self.by, self._parts, self._ids, self._ends, self.strength,
            self.left_out, weight, bias, directions, usual, self._swing, self._there,
        )  # fmt: skip
        head_archive.write(path, kept)

    @classmethod
    def load(cls, path: str | os.PathLike[str], model: nn.Module, graph: Graph) -> PartHead:
        """Open a head that `save` wrote.

        Parameters
        ----------
        path : path
        model : torch.nn.Module
        graph : ExplanatoryGraph
            The head's.

        Returns
        -------
        PartHead
            It gives the same scores, if the network is the same.

        Raises
        ------
        ExplgraphError
            If the file is missing, damaged or no head, or the graph is another.
        """
        kept = head_archive.read(path, graph)
        every = kept.by == "node" and kept.nodes == graph.node_ids
        parts = None if every else kept.parts
        head = cls(model, graph, kept.classes, by=kept.by, parts=parts)
        with torch.no_grad():
            for name in _OF_MODULE:
                cast(Tensor, getattr(head, name)).copy_(torch.from_numpy(getattr(kept, name)))
        head._swing, head._there, head._ends = kept.swing, kept.there, kept.ends
        head.strength, head.left_out = kept.strength, kept.left_out
        return head


_OF_MODULE = ("weight", "bias", "directions", "usual")


def _key(image: Tensor) -> bytes:
    """Tell an image by its content."""
    return hashlib.sha256(image.detach().cpu().contiguous().numpy().tobytes()).digest()


def _classes(classes: Sequence[str]) -> tuple[str, ...]:
    """Refuse what isn't names of two classes at least."""
    one = isinstance(classes, (str, bytes)) or not isinstance(classes, Iterable)
    names = () if one else tuple(classes)
    texts = all(isinstance(name, str) and name for name in names)
    if len(names) < 2 or len(set(names)) < len(names) or not texts:
        raise ExplgraphError(f"classes must be different names, two at least, got {classes!r}")
    return tuple(map(str, names))  # numpy has texts of its own
