"""A graph with what people decided on its parts, when they were asked."""

from __future__ import annotations

from collections.abc import Iterable

from explgraph.errors import ExplgraphError
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.teaching.record import Answer

__all__ = ["decided"]


def decided(graph: ExplanatoryGraph, answers: Iterable[Answer]) -> ExplanatoryGraph:
    """Apply decisions one after the other: gives a new graph, or the same if there are none.

    ====================================  ==========================================================
    "same", of two parts: True            they are merged
    "same", of two nodes of a part: False the part is split
    "noise": True                         the part is rejected
    "noise": False; "same" of nodes: True the part gets the name that was given, if any
    ====================================  ==========================================================

    One whose part is gone, since an earlier one was taken back, is left out.
    """
    for one in answers:
        if one.asked.kind == "mark" or one.said is None:
            continue
        try:
            graph = _applied(graph, one)
        except ExplgraphError:
            continue
    return graph


def _applied(graph: ExplanatoryGraph, answer: Answer) -> ExplanatoryGraph:
    """Apply one decision."""
    things, yes, name = answer.asked.things, answer.said, answer.name
    if answer.asked.kind == "noise":
        if yes:
            return graph.reject_part(things[0])
        return graph.name_part(things[0], name) if name else graph
    if things[0] in graph.nx:  # two nodes of one part
        part = graph.nx.nodes[things[0]].get("part", "")
        if not yes:
            return graph.split_part(part)
        return graph.name_part(part, name) if name else graph
    if not yes:
        return graph
    names = [graph.part(thing).name for thing in things]
    return graph.merge_parts(things, name or next(filter(None, names), ""))
