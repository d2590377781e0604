"""What of a layer's maps is replaced when some nodes are kept or taken away, and by what.

1. Nodes hold units of their filters' maps as far as they answer for them (`attribution.Places`);
   several hold what each of them holds: `held`.
2. Where units are replaced, their rectified activation goes and something else stands in
   (`StandIns`): nothing, the mean over reference images at the same unit, or what one other
   image has there. A part of a unit is replaced in part.

What stands in is a choice that changes answers (Zhang and Nanda 2024): zero asks what the
activation does, but few images have none; the mean asks what sets the image apart from others; by
another image's activation the network sees nothing that it doesn't see in images.

References
----------
Mean and resample ablation: Wang et al., "Interpretability in the wild", ICLR 2023, section 3.1;
Chan et al., "Causal scrubbing", 2022. Departures: shares of units of some filters are replaced,
not whole outputs of modules, and only above zero.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from explgraph.errors import ExplgraphError
from explgraph.explaining.attribution import Places, Seen
from explgraph.explaining.intervene import Change, run, watched
from explgraph.graph.graph import Graph
from explgraph.images.batches import AnyImages
from explgraph.network.geometry import Layer
from explgraph.network.outputs import Scorer

__all__ = ["Replacement", "StandIns", "check_replacement", "held", "replaced", "taken_away"]

Replacement: TypeAlias = Literal["zero", "mean", "resampled"]
"""What stands in: no activation; the mean over reference images; one reference image's own."""

_MOST = 64  # reference images of which one stands in: enough to choose from, some 50 MB


def check_replacement(replacement: str) -> None:
    """Refuse what nothing can be replaced by."""
    if replacement not in get_args(Replacement):
        raise ExplgraphError(
            f"replacement is {replacement!r}; expected one of "
            f"{', '.join(map(repr, get_args(Replacement)))}"
        )


def held(places: Places, nodes: Sequence[str], seen: Seen, maps: Tensor) -> Tensor:
    """Give the share of each unit of a layer that some of its nodes hold.

    Parameters
    ----------
    places : Places
    nodes : sequence of str
        Of the layer; none hold nothing.
    seen : Seen
        As `Places.seen` gives it.
    maps : (n, C, H, W)
        Of the layer, for their shape, type and device.

    Returns
    -------
    (n, C, H, W)
        0 to 1.
    """
    shares = torch.zeros_like(maps, requires_grad=False)
    if not nodes:
        return shares
    weights = places.weights(nodes, seen, maps.detach())
    filters = torch.tensor(places.filters(nodes), device=maps.device)
    return shares.index_add_(1, filters, weights).clamp_(max=1)


def replaced(maps: Tensor, gone: Tensor, instead: Tensor | float = 0.0) -> Tensor:
    """Replace shares of units' activation.

    Parameters
    ----------
    maps : (n, C, H, W)
        As the module gave them.
    gone : (n, C, H, W)
        Shares to be replaced, 0 to 1.
    instead : (n, C, H, W), or what broadcasts to it
        What stands in, rectified.

    Returns
    -------
    (n, C, H, W)
        ``(1 - gone) maps + gone instead``; but where nothing stands in for a unit that is below
        zero, that unit stays as it is: it has no activation that could go.
    """
    stands_in = torch.as_tensor(instead).to(maps)
    return maps + gone * (stands_in - torch.where(stands_in > 0, maps, maps.relu()))


def taken_away(
    graph: Graph,
    places: Places,
    nodes: Sequence[str],
    seen: Seen,
    instead: Mapping[str, Tensor | float] | None = None,
) -> dict[str, Change]:
    """Give the changes that take nodes away, by layer.

    Parameters
    ----------
    graph : Graph
    places : Places
        Of the graph.
    nodes : sequence of str
    seen : Seen
        As `Places.seen` gives it.
    instead : mapping of str to (n, C, H, W), optional
        What stands in, by layer; nothing by default.
    """

    def change(layer: str) -> Change:
        here = [node for node in nodes if graph.nx.nodes[node]["layer"] == layer]

        def changed(maps: Tensor) -> Tensor:
            stands_in = instead[layer] if instead else 0.0
            return replaced(maps, held(places, here, seen, maps), stands_in)

        return changed

    return {
        name: change(name)
        for name in dict.fromkeys(graph.nx.nodes[node]["layer"] for node in nodes)
    }


class StandIns:
    """What stands in for the activation of layers: see `Replacement`.

    Use `StandIns.of`.
    """

    def __init__(
        self,
        mean: Mapping[str, Tensor],
        donors: Mapping[str, Tensor],
        keys: Sequence[int],
        seed: int,
    ) -> None:
        self._mean = mean
        self._donors = donors
        self._keys = keys
        self._seed = seed

    @classmethod
    def of(
        cls,
        replacement: Replacement,
        model: nn.Module,
        graph: Graph,
        layers: Sequence[Layer],
        images: AnyImages | None,
        *,
        scorer: Scorer,
        seed: int = 0,
        batch_size: int = 32,
        device: str = "auto",
        called: str = "images",
    ) -> StandIns:
        """Look at reference images, where what stands in is theirs.

        Parameters
        ----------
        replacement : Replacement
        model, graph, images, scorer, batch_size, device
            As for `intervene.watched`. `images` aren't needed for "zero".
        layers : sequence of Layer
            Whose activation is replaced.
        seed : int
            With the image, decides which reference image stands in for it.
        called : str
            The caller's argument that `images` are.

        Raises
        ------
        ExplgraphError
            As `intervene.watched`, if there is no such replacement, or too few images.
        """
        check_replacement(replacement)
        if replacement == "zero":
            return cls({}, {}, (), seed)
        if images is None:
            raise ExplgraphError(
                f"replacement {replacement!r} needs {called}=, whose activation stands in for what "
                "is replaced: some dozens like those that are asked about"
            )
        total: dict[str, Tensor] = {}
        kept: dict[str, list[Tensor]] = {layer.name: [] for layer in layers}
        keys: list[int] = []
        n = 0
        for _, batch in watched(
            model, graph, images,
            scorer=scorer, batch_size=batch_size, device=device, progress=False,
        ):  # fmt: skip
            n += len(batch)
            maps = run(model, batch, layers, scorer=scorer).maps
            for name, values in maps.items():
                rectified = values.detach().relu().cpu()
                if replacement == "mean":
                    added = rectified.double().sum(0)
                    total[name] = total[name] + added if name in total else added
                else:
                    kept[name].append(rectified[: _MOST - len(keys)])
            if replacement == "resampled":
                keys += [_key(image) for image in batch[: _MOST - len(keys)]]
                if len(keys) == _MOST:
                    break
        if replacement == "mean":
            if n < 2:
                raise ExplgraphError(
                    f"replacement 'mean' needs at least two images in {called}, some dozens if you "
                    "can: the mean over one is its own activation; got 1"
                )
            return cls({name: (value / n).float() for name, value in total.items()}, {}, (), seed)
        if len(set(keys)) < 2:
            raise ExplgraphError(
                "replacement 'resampled' needs at least two different images, so that another one "
                f"stands in for each; got {n}"
            )
        return cls({}, {name: torch.cat(values) for name, values in kept.items()}, keys, seed)

    def __call__(self, layer: str, batch: Tensor) -> Tensor | float:
        """Give what stands in for a layer's activation in images (n, 3, H, W).

        Returns
        -------
        (n, C, H, W), (C, H, W) or 0.0
            On the CPU; never what an image itself has.
        """
        if self._mean:
            return self._mean[layer]
        if not self._donors:
            return 0.0
        return self._donors[layer][[self._donor(image) for image in batch]]

    def _donor(self, image: Tensor) -> int:
        """Choose another image for an image, by what it shows and nothing else."""
        own = _key(image)
        first = zlib.crc32(f"{own} {self._seed}".encode()) % len(self._keys)
        order = range(first, first + len(self._keys))
        return next(k % len(self._keys) for k in order if self._keys[k % len(self._keys)] != own)


def _key(image: Tensor) -> int:
    """Tell an image by its content."""
    pixels = image.detach().to("cpu", torch.float32).contiguous()
    return zlib.crc32(pixels.numpy().tobytes())
