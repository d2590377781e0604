"""A network that has some of its parts only, or all but some: modules for any evaluation loop.

Each forward pass runs the model twice: whole, to find where the graph's nodes are in these images,
and again, with what those nodes hold, or all that they don't hold, replaced (`replaced`). Inputs
and parameters get their gradients from the second pass; where nodes are is taken as given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from explgraph.brief import counted, few
from explgraph.errors import ExplgraphError
from explgraph.explaining.attribution import Places, Seen
from explgraph.explaining.by_part import nodes_named
from explgraph.explaining.intervene import Change, changing, check_mined, check_ran
from explgraph.explaining.replaced import Replacement, StandIns, held, replaced
from explgraph.fed_images import inputs_of
from explgraph.graph.graph import Graph, check_graph
from explgraph.images.batches import AnyImages
from explgraph.network.outputs import Outputs, Scorer
from explgraph.whole_numbers import checked_seed

__all__ = ["PartialModel", "only", "without"]


class PartialModel(nn.Module):
    """A network with some nodes only, or without some; made by `only` and `without`.

    Attributes
    ----------
    model : torch.nn.Module
        The network itself, which is not copied and not changed.
    nodes : tuple of str
        Ids of the nodes that are kept, or taken away.
    layers : tuple of str
        In which something is replaced, lowest first.
    keeps : bool
        Whether `nodes` are what is kept.
    """

    def __init__(
        self,
        model: nn.Module,
        graph: Graph,
        nodes: Sequence[str],
        layers: Sequence[str],
        stand_ins: StandIns,
        *,
        keeps: bool,
    ) -> None:
        super().__init__()
        self.model = model
        self.nodes = tuple(nodes)
        self.layers = tuple(layers)
        self.keeps = keeps
        self._graph_layers = graph.layers
        self._places = Places(graph)
        self._stand_ins = stand_ins
        self._by_layer = {
            name: [node for node in nodes if graph.nx.nodes[node]["layer"] == name]
            for name in self.layers
        }
        self.training = model.training

    def extra_repr(self) -> str:
        """Say what is kept or taken away."""
        what = "only" if self.keeps else "without"
        return f"{what} {counted(len(self.nodes), 'node')} of {few(self.layers)}"

    def forward(self, *args: Any, **options: Any) -> Any:
        """Take what the model takes, give what it gives when some of its maps are replaced.

        Raises
        ------
        ExplgraphError
            If no tensor of images is given, or the images are of another size than those mined.
        """
        images = _images(args, options)
        plain, _ = inputs_of(images)
        n = len(plain)
        if n == 0:  # in an empty batch there is nothing to replace
            return self._run(args, options)
        with _evaluating(self.model), torch.no_grad():
            with changing(self.model, self._graph_layers, {}, n) as maps:
                self._run(args, options)
            check_ran(self._graph_layers, maps)
            seen = self._places.seen(maps)
        changed = [layer for layer in self._graph_layers if layer.name in self.layers]
        changes = {name: self._change(name, plain, seen) for name in self.layers}
        with changing(self.model, changed, changes, n):
            return self._run(args, options)

    def _run(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Call the model as it was called, with what it takes beside images."""
        if len(args) == 1 and not options:
            plain, further = inputs_of(args[0])
            return self.model(plain, **further)
        return self.model(*args, **options)

    def _change(self, layer: str, images: Tensor, seen: Seen) -> Change:
        def changed(maps: Tensor) -> Tensor:
            own = held(self._places, self._by_layer[layer], seen, maps)
            instead = self._stand_ins(layer, images)
            return replaced(maps, 1 - own if self.keeps else own, instead)

        return changed


def _images(args: tuple[Any, ...], options: dict[str, Any]) -> Tensor:
    """Find the images among what the model is called with: the first batch of pictures."""
    for value in (*args, *options.values()):
        if isinstance(value, Tensor) and value.ndim == 4:
            return value
    raise ExplgraphError(
        "the model without parts must be called with a tensor of images (n, channels, H, W), got "
        + (", ".join(map(_told, (*args, *options.values()))) or "nothing")
    )


def _told(value: object) -> str:
    """Say what was given: a tensor by its shape."""
    return f"one of {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Look for nodes in evaluation mode: training changes the statistics of batch norms."""
    training = [module for module in model.modules() if module.training]
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True


def only(
    model: nn.Module,
    graph: Graph,
    parts: str | Iterable[str],
    *,
    layers: Sequence[str] | None = None,
    replacement: Replacement = "zero",
    images: AnyImages | None = None,
    seed: int = 0,
    outputs: Outputs | None = None,
    batch_size: int = 32,
    device: str = "auto",
) -> PartialModel:
    """Make a network that has some of its parts alone: all else in their layers is replaced.

    Parameters
    ----------
    model : torch.nn.Module
        The network that was mined, in evaluation mode. Neither copied nor changed.
    graph : ExplanatoryGraph
    parts : iterable of str
        Ids, names or titles of parts, which stand for their nodes; or ids of nodes.
    layers : sequence of str, optional
        Where all else is replaced; by default the layers that the nodes lie in. The nodes of other
        layers are not looked at.
    replacement : "zero", "mean" or "resampled"
        What stands in for what is replaced: no activation; the mean over `images`, unit by unit;
        what another one of `images` has there, chosen by `seed` and the image's content.
    images : ImageFolder, (N, C, H, W) tensor, Dataset or DataLoader, optional
        For "mean" and "resampled": some dozens like those that will be asked about.
    seed : int
        Of "resampled".
    outputs, batch_size, device
        For the run over `images`, as in `ablate`.

    Returns
    -------
    PartialModel
        Takes what the model takes, gives what it gives. Differentiable, under autocast as well, on
        the model's device. Nodes are found anew in each batch.

    Raises
    ------
    ExplgraphError
        If there is no such part, node or layer, or none is named; the model isn't the one that was
        mined; `images` are missing, too few or of another size.

    Notes
    -----
    Nodes hold what they answer for in their filters' maps, above zero (`replaced`).
    A layer without any of the nodes, if it is named in `layers`, is replaced whole.

    Examples
    --------
    >>> import torch
    >>> import explgraph
    >>> from explgraph import creatures
    >>> model, pictures = creatures.network(), creatures.draw(40, seed=1).tensor()
    >>> graph = explgraph.mine(model, pictures, ["stage4"], seed=0)
    >>> first = explgraph.only(model, graph, graph.parts[0].id, replacement="mean", images=pictures)
    >>> with torch.no_grad():
    ...     first(pictures[:2]).shape
    torch.Size([2, 13])
    """
    return _partial(
        model, graph, parts, layers, replacement, images, seed, outputs, batch_size, device,
        keeps=True,
    )  # fmt: skip


def without(
    model: nn.Module,
    graph: Graph,
    parts: str | Iterable[str],
    *,
    layers: Sequence[str] | None = None,
    replacement: Replacement = "zero",
    images: AnyImages | None = None,
    seed: int = 0,
    outputs: Outputs | None = None,
    batch_size: int = 32,
    device: str = "auto",
) -> PartialModel:
    """Make a network that lacks some of its parts: what their nodes hold is replaced.

    Only the nodes' places are, in the maps of their filters: what else a filter answers to stays.

    Parameters
    ----------
    model, graph, parts, replacement, images, seed, outputs, batch_size, device
        As for `only`.
    layers : sequence of str, optional
        Where the nodes are taken away; by default everywhere.

    Returns
    -------
    PartialModel

    Raises
    ------
    ExplgraphError
        As `only`.
    """
    return _partial(
        model, graph, parts, layers, replacement, images, seed, outputs, batch_size, device,
        keeps=False,
    )  # fmt: skip


def _partial(
    model: nn.Module,
    graph: Graph,
    parts: str | Iterable[str],
    layers: Sequence[str] | None,
    replacement: Replacement,
    images: AnyImages | None,
    seed: int,
    outputs: Outputs | None,
    batch_size: int,
    device: str,
    *,
    keeps: bool,
) -> PartialModel:
    """Check what is asked and make the module."""
    check_graph(graph)
    if isinstance(model, PartialModel):
        raise ExplgraphError(
            "model lacks parts already; give the network itself (its attribute model), and name in "
            "one call all that is kept or taken away"
        )
    check_mined(model, graph)
    seed = checked_seed(seed)
    nodes = nodes_named(graph, parts)
    known = [layer.name for layer in graph.layers]
    if layers is None:
        inside = {graph.nx.nodes[node]["layer"] for node in nodes}
    else:
        inside = {layers} if isinstance(layers, str) else set(layers)
        if unknown := sorted(inside.difference(known)):
            raise ExplgraphError(
                f"layers names {unknown[0]!r}, which the graph wasn't mined from; its layers are "
                f"{', '.join(known)}"
            )
        nodes = tuple(node for node in nodes if graph.nx.nodes[node]["layer"] in inside)
    if not nodes:
        raise ExplgraphError(
            "parts is empty: name at least one part or node"
            + ("" if layers is None else f" that lies in {', '.join(sorted(inside))}")
        )
    chosen = [layer for layer in graph.layers if layer.name in inside]
    stand_ins = StandIns.of(
        replacement, model, graph, chosen, images,
        scorer=Scorer(outputs), seed=seed, batch_size=batch_size, device=device,
    )  # fmt: skip
    return PartialModel(
        model, graph, nodes, [layer.name for layer in chosen], stand_ins, keeps=keeps
    )
