"""Two graphs compared: what is the same, appeared, vanished, moved, changed its effect on a class.

Mining groups nodes anew each time, and finds some parts in one run that it doesn't in the next. So
what one graph has and the other hasn't says little about the networks. Here parts say where and
when to look, and what is compared is what the two *networks* do there:

1. Both networks run over the same photographs; each graph's nodes are found in them.
2. Parts (or nodes) are matched one to one by where and when they are present: the optimal
   assignment of their similarities. Chance is measured by exchanging the images of one side.
   Matched things that are nearer than two parts of one graph can be are the same.
3. *Vanished*: of a part of A, network A's maps at its place go with its presence, image by image;
   those of network B at the same place do so by less than half. *Appeared* is the same of B's
   parts. A part without a partner that both networks' maps go with was only grouped otherwise.
4. *Moved*: a part that vanished at its place, while the one it is matched with appeared elsewhere.
5. *Effects*: by how much more what is at the part's place adds to a class's score (gradient times
   activation) when the part is present, in either network.
6. All of these are paired differences over the images, tested by exchanging the two networks image
   by image, beyond a margin, and corrected together (Benjamini and Hochberg).

One network, mined twice however differently, gives differences of exactly 0.

References
----------
Benjamini and Hochberg 1995, the false discovery rate; exchange of signs as a test of paired
differences: Fisher, "The design of experiments" (1935), section 21.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from explgraph.answers.at_places import Running, first_pass, second_pass
from explgraph.answers.changes import changes_of, matches_of, pair_up
from explgraph.answers.comparison import Comparison
from explgraph.answers.paired import folds
from explgraph.answers.side_by_side import classes_of, cut_patches, frame, pictures_of, shared
from explgraph.answers.sides import look_at, side_of, units
from explgraph.brief import counted
from explgraph.errors import ExplgraphError
from explgraph.explaining.by_part import By, check_by
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.graph.graph import check_graph
from explgraph.images.batches import AnyImages
from explgraph.images.taken import taken
from explgraph.network.outputs import Outputs, Scorer
from explgraph.progress import Shown
from explgraph.whole_numbers import checked_seed, whole

__all__ = ["compare"]

_LEAST = 20  # images: 2^-20 is the least p that exchange can give, 16 are left to fit a line on
_MANY = 100  # images: with fewer a doubt is told
_PATCHES = 3  # of a part on the page


def compare(
    graph_a: ExplanatoryGraph,
    graph_b: ExplanatoryGraph,
    images: AnyImages,
    *,
    models: nn.Module | tuple[nn.Module, nn.Module],
    images_b: AnyImages | None = None,
    classes: int | str | Sequence[int | str] | Mapping[str, Any] | None = None,
    by: By = "part",
    margin: float = 0.05,
    fdr: float = 0.05,
    permutations: int | None = None,
    seed: int = 0,
    outputs: Outputs | tuple[Outputs | None, Outputs | None] | None = None,
    batch_size: int = 32,
    device: str = "auto",
    progress: Shown = None,
) -> Comparison:
    """Compare two graphs: of two checkpoints, two networks, or two choices of layers.

    Parameters
    ----------
    graph_a, graph_b : ExplanatoryGraph
        Before and after, where that makes sense.
    images : path of a folder, ImageFolder, list of PIL images, (N, C, H, W) tensor, ...
        Some hundreds that neither graph was mined from, best. A folder's path or photographs are
        made ready as each graph's images were; what is made ready already goes to both networks.
    models : torch.nn.Module, or (torch.nn.Module, torch.nn.Module)
        The networks that were mined, in evaluation mode; one if both graphs are of it.
    images_b : images, optional
        The same ones as network B wants them, in the same order or under the same names, where
        `images` are made ready already and the two want them otherwise.
    classes : int, str, sequence of these, or mapping, optional
        Effects on which are compared: numbers of outputs or names that both models know; a mapping
        has names of yours, and for each a number, or A's and B's. By default those that come first
        in a tenth of the images, eight at most, if both networks have as many outputs.
    by : "part" or "node"
        With "node", nodes that belong to parts are matched and tested in place of their parts; each
        at its part's place.
    margin : float
        Changes that are no larger don't count: of a share of the maps' variance, and of an effect
        in standard deviations.
    fdr : float
        Share of false ones among what is told to have changed.
    permutations : int, optional
        Exchanges by which each change is tested; by default as many as a single change needs to
        stand out among all tests (40 for each; from 999 to 20,000).
    seed : int
    outputs : callable, or (callable, callable), optional
        Takes what the model gives, gives scores of (images, classes), where it gives anything else
        than these (`explgraph.network.outputs`); one for both, or A's and B's.
    batch_size : int
    device : str
        Where the models run.
    progress : bool or None
        Show a bar: by default in notebooks alone, if True on a terminal too.

    Returns
    -------
    Comparison
        ``matches`` say what became of each part, ``changes`` what was tested, by strength. A part
        *vanished* if network B's maps, at the place of A's part, go with its presence by less than
        half as much as network A's do.

    Raises
    ------
    ExplgraphError
        If one is no graph or has no parts, a model isn't the one that its graph was mined from, the
        images are fewer than 20 or not the same for both, there is no such class, or `permutations`
        are too few to tell anything at this `fdr`.

    Notes
    -----
    What B's maps *say* counts by how much of their variance it is, not by whether a decoder could
    read it: of a cue that a network was trained to overlook a regression still finds traces.

    A presence tells nothing in images where the thing is always there to the same degree: such a
    part can't be found to have vanished. Effects are to first order, and go by covariance: two
    parts that come and go together share them.
    """
    check_by(by)
    graphs = (_checked(graph_a, "graph_a"), _checked(graph_b, "graph_b"))
    for name, share in (("margin", margin), ("fdr", fdr)):
        if not 0 <= share < 1:
            raise ExplgraphError(f"{name} must be from 0 to below 1, got {share!r}")
    if permutations is not None:
        whole(permutations, "permutations")
        if fdr * (permutations + 1) < 2:  # an effect's p, two-sided, is never smaller
            raise ExplgraphError(
                f"permutations is {permutations}: no p-value is below {2 / (permutations + 1):.2g} "
                f"then, and nothing could be told at fdr={fdr:g}; take 999 or more, or leave it out"
            )
    checked_seed(seed)
    pair = _two(models)
    read = outputs if isinstance(outputs, tuple) else (outputs, outputs)
    running = [Running(Scorer(one), batch_size, device, progress) for one in read]
    given = (images, images if images_b is None else images_b)
    ready = [
        taken(source, graph.nx.graph["preprocessing"])
        for source, graph in zip(given, graphs, strict=True)
    ]
    first = []
    for net, name in enumerate("AB"):
        try:
            first.append(first_pass(pair[net], graphs[net], ready[net], running[net]))
        except ExplgraphError as err:
            raise ExplgraphError(f"network {name}: {err}") from err
    names = shared(first[0].names, first[1].names, _LEAST)
    sides = [side_of(graph, one.named(names), by) for graph, one in zip(graphs, first, strict=True)]
    doubts: list[str] = []
    columns = classes_of(classes, pair, [side.first.scores for side in sides], doubts)
    sizes = [graph.image_size for graph in graphs]
    to_b = frame(ready[0], sizes[0], ready[1], sizes[1], names)
    to_a = frame(ready[1], sizes[1], ready[0], sizes[0], names)
    # A's places, then B's, as either network sees them
    seen = ((sides[0].places, to_a(sides[1].places)), (to_b(sides[0].places), sides[1].places))
    passes = [
        second_pass(
            pair[net], graphs[net], ready[net],
            dict(zip(names, np.concatenate(seen[net], 1), strict=True)),
            [places.shape[1] for places in seen[net]],
            [column[net] for _, column in columns],
            running[net],
        )
        for net in (0, 1)
    ]  # fmt: skip
    fold = folds(len(names), seed)
    starts = (0, sides[0].places.shape[1])
    per = units(sides, [column for _, column in columns])
    looks = [
        look_at(side, passes, start, per, fold) for side, start in zip(sides, starts, strict=True)
    ]
    at_b = to_a(sides[1].at)
    pairing = pair_up(sides, at_b, sizes[0], fdr=fdr, seed=seed)
    titles = tuple(title for title, _ in columns)
    changes = changes_of(
        sides, looks, pairing, titles,
        margin=margin, fdr=fdr, permutations=permutations, seed=seed,
    )  # fmt: skip
    if len(names) < _MANY:
        doubts.append(
            f"{counted(len(names), 'image')} tell only the largest changes; some hundreds are "
            "better"
        )
    pictures = pictures_of(ready[0], graph_a, first[0].names)
    flagged = {(one.graph, one.part) for one in changes if one.changed}
    patches: dict[tuple[str, str], tuple[str, ...]] = {}
    for key, side, at in zip("ab", sides, (sides[0].at, at_b), strict=True):
        shown = [k for k, name in enumerate(side.ids) if by == "part" or (key, name) in flagged]
        tiles = cut_patches(pictures, names, at[:, shown], side.there[:, shown], sizes[0], _PATCHES)
        patches |= {(key, side.ids[k]): found for k, found in zip(shown, tiles, strict=True)}
    return Comparison(
        by, matches_of(sides, looks, pairing, changes, at_b), changes, titles, len(names),
        pairing.beyond_chance, fdr, margin, tuple(doubts), patches,
    )  # fmt: skip


def _checked(graph: object, name: str) -> ExplanatoryGraph:
    """Refuse what is no graph, or has no parts."""
    try:
        check_graph(graph)
    except ExplgraphError as err:
        raise ExplgraphError(f"{name}: {err}") from err
    assert isinstance(graph, ExplanatoryGraph)
    if not graph.parts:
        raise ExplgraphError(
            f"{name} has no parts, by whose places networks are compared; mine more images, or "
            "layers in which nodes of different filters sit at the same thing"
        )
    return graph


def _two(models: object) -> tuple[nn.Module, nn.Module]:
    """Give the two models."""
    if isinstance(models, nn.Module):
        return models, models
    listed = tuple(models) if isinstance(models, (tuple, list)) else ()
    if len(listed) != 2 or not all(isinstance(one, nn.Module) for one in listed):
        raise ExplgraphError(
            "models must be the two networks that were mined, (model_a, model_b), or one if both "
            f"graphs are of it, got {type(models).__name__}"
        )
    return listed[0], listed[1]
