"""One of two graphs that are compared: where and when its things are, what networks do there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from explgraph.answers.at_places import FirstPass, SecondPass
from explgraph.answers.paired import answering
from explgraph.explaining.by_part import By, different_titles, names_of_nodes
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.parsed_parts import Pooling

__all__ = ["Look", "Side", "look_at", "side_of", "units"]

Array = NDArray[np.float64]

_TINY = 1e-12


class Side(NamedTuple):
    """A graph's V things, parts or nodes, in N images.

    Attributes
    ----------
    first : FirstPass
    ids, titles : tuple of str
    places : (N, P, 2) float64
        Of the graph's parts, px of its network's image.
    of : (V,) int64
        At which of them each thing is looked for.
    at : (N, V, 2) float64
        Where the things are, px of the network's image.
    there : (N, V) float64
        Presence, 0 to 1.
    """

    first: FirstPass
    ids: tuple[str, ...]
    titles: tuple[str, ...]
    places: Array
    of: NDArray[np.int64]
    at: Array
    there: Array


class Look(NamedTuple):
    """What both networks do at the places of one side's V things, of network A and of B.

    Attributes
    ----------
    answers : (array, array) of (N, V)
        Each image's part in the share of what the maps do that goes with the presence.
    effects : (array, array) of (N, V, K)
        Each image's part in the effect on a class: standard deviations of its score, that are added
        at the place, for each of the presence.
    """

    answers: tuple[Array, Array]
    effects: tuple[Array, Array]


def side_of(graph: ExplanatoryGraph, first: FirstPass, by: By) -> Side:
    """Say where and when a graph's parts, or the nodes of them, are present.

    A part's presence is the mean score of its nodes: its own presence curve, fitted when the graph
    was mined, would only bend it.
    """
    pooling = Pooling.of(graph)
    places = pooling(first.positions, first.expected, first.present)[0].astype(np.float64)
    scores = first.present.astype(np.float64)
    if by == "node":
        mine = np.flatnonzero(pooling.member >= 0)
        ids = tuple(graph.node_ids[v] for v in mine)
        at = first.positions[:, mine].astype(np.float64)
        of = pooling.member[mine]
        return Side(first, ids, names_of_nodes(graph, ids), places, of, at, scores[:, mine])
    titles = different_titles(graph.parts)
    there = np.empty(places.shape[:2])
    for k in range(len(pooling.parts)):
        members, weight, _ = pooling.of_part(k)
        there[:, k] = scores[:, members] @ weight / weight.sum()
    named = tuple(titles[part] for part in pooling.parts)
    return Side(first, pooling.parts, named, places, np.arange(len(named)), places, there)


def units(sides: Sequence[Side], columns: Sequence[tuple[int, int]]) -> tuple[Array, Array]:
    """Give the unit of each network's effects on the classes, (K,).

    It is the standard deviation of the class's score, root mean square of both networks: were it
    each network's own, then all effects on a class would seem to change when one of them does. But
    B's scores count in A's terms, for networks differ in how large all their scores are: by the
    median, over outputs, of the ratio of their deviations.
    """
    spread = [side.first.scores.std(0) for side in sides]
    own = [spread[net][[column[net] for column in columns]] for net in (0, 1)]
    a, b = spread if len(spread[0]) == len(spread[1]) else own
    known = (a > _TINY) & (b > _TINY)
    ratio = float(np.median(b[known] / a[known])) if known.any() else 1.0
    unit = np.sqrt((np.square(own[0]) + np.square(own[1] / ratio)) / 2).clip(min=_TINY)
    return unit, ratio * unit


def look_at(
    side: Side,
    passes: Sequence[SecondPass],
    start: int,
    per: Sequence[Array],
    fold: NDArray[np.int64],
) -> Look:
    """Relate what both networks do at one side's places to the presence of its things.

    Parameters
    ----------
    side : Side
    passes : (SecondPass, SecondPass)
        Of network A and B; the side's P places are those from `start` on.
    start : int
    per : (array, array) of (K,)
        `units` of the effects.
    fold : (N,) int
    """
    centred = side.there - side.there.mean(0)
    there = centred / np.maximum(centred.std(0), 1e-9)
    answers, effects = [], []
    for one, unit in zip(passes, per, strict=True):
        found = np.zeros(side.there.shape)
        for place in np.unique(side.of):
            mine = np.flatnonzero(side.of == place)
            says = one.says[:, start + place].astype(np.float64)
            found[:, mine] = answering(says, side.there[:, mine], fold, one.layers)
        answers.append(found)
        adds = one.adds[:, start + side.of] / unit
        effects.append((adds - adds.mean(0)) * there[..., None])
    return Look((answers[0], answers[1]), (effects[0], effects[1]))
