"""Which parts carried a class's score in one image.

1. The network runs; the graph's nodes, and so its parts, are found in its maps.
2. What every unit of a layer adds to the score, and what of it is the parts' own, is as for all
   answers (`attribution`). All units of a layer add up to the score less the score without the
   layer's activation, up to a residual that is told.
3. What nodes of no part have, and what no node has, is unexplained, and told.
4. As a check the first k parts are taken away in truth, and the network runs on: beside it stand
   what their contributions let expect, parts in random order, and as much activation at random
   units.

References
----------
Deletion curves: Samek et al., IEEE TNNLS 2017. Contributions: see `attribution`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explgraph.errors import ExplgraphError, ExplgraphWarning
from explgraph.explaining.account import LayerAccount, PartContribution, Removal
from explgraph.explaining.attribution import Places, Seen, added
from explgraph.explaining.by_part import different_titles
from explgraph.explaining.explanation import Explanation
from explgraph.explaining.intervene import Change, Run, run, watched, with_gradients
from explgraph.explaining.replaced import held, replaced
from explgraph.graph.graph import Graph, check_graph
from explgraph.graph.parts import Part
from explgraph.images.folder import ImageFolder
from explgraph.images.single import AnyImage, SingleImage, single_image
from explgraph.network.class_names import checked_names, class_names, class_number, class_title
from explgraph.network.geometry import Layer
from explgraph.network.outputs import Outputs, Scorer
from explgraph.parsed_parts import Pooling
from explgraph.views.pictures import Pictures, part_side, part_sightings, patch
from explgraph.views.remembered import remembered_for
from explgraph.whole_numbers import checked_seed

__all__ = ["explain"]

_AT_ONCE = 8  # copies of the image in a batch, without parts
_FIRST = 8  # parts that are taken away, at most
_DRAWS = 4  # of what is random beside them
_LITTLE = 0.25  # of what the layer carries, or its units do: with less the rest is the story
_MISSED = 0.05  # of what the layer carries: the error that Sundararajan et al. ask for
_PATCHES = 4  # of a part, elsewhere
_TILE = 96  # px of a patch


@with_gradients
def explain(
    model: nn.Module,
    graph: Graph,
    image: AnyImage,
    target: int | str | None = None,
    *,
    layer: str | None = None,
    classes: Sequence[str] | None = None,
    images: ImageFolder | None = None,
    seed: int = 0,
    outputs: Outputs | None = None,
    device: str = "auto",
) -> Explanation:
    """Say which parts carried a class's score in an image: see `ExplanatoryGraph.explain`."""
    check_graph(graph)
    if not graph.parts:
        raise ExplgraphError(
            "the graph has no parts, and an image is explained by parts; mine more images or "
            "layers, or ask nodes (explgraph.answers.rationales)"
        )
    seed = checked_seed(seed)
    scorer = Scorer(outputs)
    told = _told_layer(graph, layer)
    if not isinstance(images, ImageFolder | None):
        raise ExplgraphError(
            f"images must be an ImageFolder, got {type(images).__name__}; give the photographs "
            "that were mined as explgraph.ImageFolder(PATH, ...), or none"
        )
    if images is None:
        images = remembered_for(graph, "the explanation")
    seen = single_image(image, graph.nx.graph["preprocessing"], images)
    for _, batch in watched(model, graph, seen.batch, scorer=scorer, batch_size=1, device=device):
        found = _explained(model, scorer, graph, batch, seen, target, classes, told, images, seed)
    for doubt in found.doubts:
        warnings.warn(f"{seen.name}: {doubt}", ExplgraphWarning, stacklevel=4)
    return found


def _told_layer(graph: Graph, layer: str | None) -> str:
    """Choose the layer nearest to the output that has nodes of parts, or check the chosen one.

    Nothing lies between it and the score that could go another way, so what it carries is all of
    the score, as a rule, and estimates are nearly exact there.
    """
    held = {name for part in graph.parts for name in part.layers}
    known = [one.name for one in reversed(graph.layers) if one.name in held]
    if layer is None:
        return known[0]
    if layer not in known:
        raise ExplgraphError(
            f"layer {layer!r}: no part has nodes in such a layer; choose one of {', '.join(known)}"
        )
    return layer


def _explained(
    model: nn.Module,
    scorer: Scorer,
    graph: Graph,
    batch: Tensor,
    seen: SingleImage,
    target: int | str | None,
    classes: Sequence[str] | None,
    told: str,
    images: ImageFolder | None,
    seed: int,
) -> Explanation:
    """Explain a batch of one image."""
    whole = run(model, batch, graph.layers, scorer=scorer, gradients=True)
    scores = whole.scores[0].detach().cpu().double()
    n = len(scores)
    names = class_names(model, n) if classes is None else checked_names(classes, n)
    number = int(scores.argmax()) if target is None else class_number(target, names, n)
    score = float(scores[number])

    places = Places(graph)
    found = places.seen(whole.maps)
    pooling = Pooling.of(graph)
    at, presence, radius = (values[0] for values in pooling(*(part.numpy() for part in found[:3])))
    accounts, shares = [], {}
    for layer in reversed(graph.layers):
        nodes = graph.nodes_of(layer.name)
        if not nodes:
            continue
        maps = whole.maps[layer.name].detach()
        inside = _Inside(model, scorer, batch, layer, number, maps[0])
        account, by_part = inside.account(graph, places, found, nodes, whole)
        accounts.append(account)
        if layer.name == told:
            shares, chosen = by_part, inside
    size = max(abs(next(a.carried for a in accounts if a.layer == told)), 1e-12)
    titles = different_titles(graph.parts)
    column = {part: k for k, part in enumerate(pooling.parts)}
    members = {
        part.id: [v for v in part.nodes if graph.nx.nodes[v]["layer"] == told]
        for part in graph.parts
    }
    rows = [
        PartContribution(
            part, titles[part], shares[part], shares[part] / size,
            float(at[column[part], 0]), float(at[column[part], 1]),
            float(presence[column[part]]), float(radius[column[part]]), len(nodes),
        )
        for part, nodes in members.items() if nodes
    ]  # fmt: skip
    rows.sort(key=lambda row: -row.contribution)
    removal = chosen.removal(places, found, rows, members, score, seed)
    here = next(account for account in accounts if account.layer == told)
    return Explanation(
        seen.name, number, class_title(number, names), score,
        1 + int((scores > score).sum()), n, told, tuple(rows), removal, tuple(accounts),
        _doubts(here, removal), graph.image_size, seen.picture,
        _elsewhere(graph, [row.part for row in rows], images, seen.name), seen.to_original,
    )  # fmt: skip


class _Inside(NamedTuple):
    """A layer in the middle of a run, of one image."""

    model: nn.Module
    scorer: Scorer
    batch: Tensor
    layer: Layer
    number: int  # of the class
    maps: Tensor  # (C, H, W), as the module gave them

    @property
    def activation(self) -> Tensor:
        """Rectified maps (C, H, W), at least float32."""
        return self.maps.to(torch.promote_types(self.maps.dtype, torch.float32)).relu()

    def without(self, gone: Tensor) -> NDArray[np.float64]:
        """Give the class's scores (n,) without shares `gone` (n, C, H, W) of the activation."""

        def scores(gone: Tensor) -> Tensor:
            copies = self.batch.expand(len(gone), -1, -1, -1)
            changes: dict[str, Change] = {
                self.layer.name: lambda maps: replaced(maps, gone.to(maps))
            }
            done = run(self.model, copies, [self.layer], changes, scorer=self.scorer)
            return done.scores[:, self.number]

        each = [scores(some) for some in torch.split(gone, _AT_ONCE)]
        return torch.cat(each).cpu().double().numpy()

    def account(
        self,
        graph: Graph,
        places: Places,
        seen: Seen,
        nodes: Sequence[str],
        whole: Run,
    ) -> tuple[LayerAccount, dict[str, float]]:
        """Share out what the layer's units add among its nodes, and so among parts."""
        found = added(self.model, self.batch, whole, self.layer, [self.number], scorer=self.scorer)
        owned = places.own(nodes, self.maps[None], seen)
        contributions = found.of(owned)
        size = found._replace(units=found.units.abs())
        own, moved_by = (
            one[0, 0].cpu().double().numpy() for one in (contributions, size.of(owned))
        )
        part = np.array([graph.nx.nodes[node].get("part", "") for node in nodes])
        by_part = {one.id: float(own[part == one.id].sum()) for one in graph.parts}
        without, _, no_node, residual = (
            float(values[0, 0]) for values in found.rests(contributions)
        )
        parts, no_part = float(own[part != ""].sum()), float(own[part == ""].sum())
        moved = max(float(size.units.sum()), 1e-12)
        return (
            LayerAccount(
                self.layer.name, without, float(found.carried), parts, no_part, no_node, residual,
                float(moved_by[part != ""].sum()) / moved,
            ),
            by_part,
        )  # fmt: skip

    def removal(
        self,
        places: Places,
        seen: Seen,
        rows: Sequence[PartContribution],
        members: Mapping[str, Sequence[str]],
        score: float,
        seed: int,
    ) -> Removal:
        """Take the first parts away in truth, and others beside them."""
        speaking = [row for row in rows if row.contribution > 0][:_FIRST]
        order = [row.part for row in speaking]
        activation = self.activation
        random = torch.Generator().manual_seed(seed)
        others = [
            [rows[k].part for k in torch.randperm(len(rows), generator=random).tolist()]
            for _ in range(_DRAWS)
        ]

        def taken(parts: Sequence[str]) -> Tensor:
            nodes = [node for part in parts for node in members[part]]
            return held(places, nodes, seen, activation[None])[0]

        first = [taken(order[:k]) for k in _up_to(order)]
        by_chance = [taken(parts[:k]) for parts in others for k in _up_to(order)]
        equal = [
            _as_much(activation, float((activation * gone).sum()), random)
            for _ in range(_DRAWS)
            for gone in first
        ]
        k = len(order)
        left = np.full((1 + 2 * _DRAWS, k + 1), score)
        if order:
            left[:, 1:] = self.without(torch.stack([*first, *by_chance, *equal])).reshape(-1, k)
        expected = score - np.cumsum([0.0, *(row.contribution for row in speaking)])
        return Removal(
            tuple(order),
            left[0],
            expected,
            left[1 : 1 + _DRAWS].mean(0),
            left[1 + _DRAWS :].mean(0),
        )


def _up_to(order: Sequence[str]) -> range:
    """Give 1 to the number of parts."""
    return range(1, len(order) + 1)


def _as_much(activation: Tensor, amount: float, random: torch.Generator) -> Tensor:
    """Choose random units that have some amount of activation: shares (C, H, W), 0 or 1 but one."""
    order = torch.randperm(activation.numel(), generator=random).to(activation.device)
    there = activation.flatten()[order].double()
    before = there.cumsum(0) - there
    share = ((amount - before) / there.clamp(min=1e-12)).clamp(0, 1).to(activation)
    gone = torch.zeros_like(share)
    gone[order] = share
    return gone.view_as(activation)


def _doubts(here: LayerAccount, removal: Removal) -> tuple[str, ...]:
    """Say why an explanation may be little worth."""
    doubts = []
    if not (removal.parts or here.explained or here.carried):
        return (
            f"nothing in {here.layer} changes this score, {removal.score[0] + 0:.3g}: ask about a "
            "class that the image shows, or see whether outputs= gives a constant",
        )
    if abs(here.parts) < _LITTLE * abs(here.carried):
        doubts.append(
            f"the parts explain little of this score: they add {here.parts:+.2g} to the "
            f"{here.carried:.3g} that {here.layer} carries of it"
        )
    elif here.explained < _LITTLE:
        doubts.append(
            f"the parts explain little of this score: of all that units of {here.layer} add to it "
            f"or take from it, {here.explained:.0%} is the parts' own"
        )
    if abs(here.residual) > _MISSED * abs(here.carried):
        doubts.append(
            f"what units of {here.layer} add misses what it carries by {here.residual:+.2g}, for "
            "between this layer and the score the network is far from linear; ask a higher layer"
        )
    if not removal.parts:
        doubts.append("no part speaks for this class in this image")
    elif len(removal.parts) > 1:
        fell = removal.score[0] - removal.score[1:-1].mean()
        chance = removal.score[0] - removal.random[1:-1].mean()
        if fell <= chance:
            doubts.append(
                f"without its first parts the score falls by {fell:.2g}, and by {chance:.2g} "
                "without as many parts at random: their order means nothing here"
            )
    return tuple(doubts)


def _elsewhere(
    graph: Graph, parts: Sequence[str], images: ImageFolder | None, but: str
) -> dict[str, tuple[NDArray[np.uint8], ...]]:
    """Cut the patches that show the parts best out of other images."""
    if images is None:
        return {}
    pictures = Pictures(images, graph.image_size)
    seen = {name for part in graph.parts for name, *_ in part.exemplars}
    if seen and not any(name in pictures for name in seen):
        warnings.warn(
            f"images holds none of those that parts were seen best in, such as {min(seen)!r}; what "
            "parts look like elsewhere is left out",
            ExplgraphWarning,
            stacklevel=6,
        )
    side = part_side(graph.image_size)
    known: dict[str, Part] = {part.id: part for part in graph.parts}
    return {
        part: tuple(
            patch(pictures[one.image], one.x, one.y, side, _TILE)[0]
            for one in part_sightings(known[part], pictures, None, _PATCHES + 1)
            if pictures.names[one.image] != but
        )[:_PATCHES]
        for part in parts
    }
