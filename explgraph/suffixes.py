"""The suffixes of the files that things are written to, and their check.

Apart from what writes the files, so that the command line can tell them at once.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from explgraph.errors import ExplgraphError
from explgraph.paths import checked_path

__all__ = [
    "AND_ORS",
    "CIRCUITS",
    "COMPARISONS",
    "DRAWINGS",
    "EXPLANATIONS",
    "GRAPHS",
    "MARKS",
    "PARSES",
    "PART_GRAPHS",
    "REPORTS",
    "SUFFIXES",
    "SUSPICIONS",
    "TABLES",
    "TREES",
    "check_suffix",
]

DRAWINGS = (".svg", ".png", ".pdf")
SUFFIXES = (".dot", ".gv", *DRAWINGS, ".graphml", ".gexf", ".gml", ".json", ".cyjs", ".html")
"""Of graphs, as other programs' files and pages (`explgraph.views.export.write`)."""
GRAPHS = (*SUFFIXES, ".explgraph")
"""Of all files that a graph writes itself to."""
PART_GRAPHS = (".graphml", ".gexf", ".gml", ".json", ".cyjs", ".csv")
"""Of the graph of a graph's parts (`explgraph.views.export.write_parts`)."""
AND_ORS = (*SUFFIXES, ".csv")
"""Of And-Or graphs (`explgraph.views.and_or_files.write`)."""
TREES = (".html", ".dot", ".gv", ".json")
"""Of decision trees (`explgraph.answers.tree_files.write`)."""
EXPLANATIONS = (".html", *DRAWINGS, ".json", ".csv")
"""Of one image explained (`explgraph.explaining.explanation`)."""
CIRCUITS = (".explgraph", ".html", ".md", ".json", ".csv", *DRAWINGS)
"""Of circuits (`explgraph.circuits.circuit`)."""
TABLES = (".csv", ".json", ".parquet")
"""Of tables (`explgraph.rows`)."""
MARKS = (".csv", ".json")
"""Of marks, as `explgraph.evaluation.landmarks` writes them."""
PARSES = (*TABLES, ".npz")
REPORTS = (*TABLES, ".md")
SUSPICIONS = (*REPORTS, ".html", *DRAWINGS)
"""Of groups with hidden biases (`explgraph.answers.suspicions`)."""
COMPARISONS = (".html", *REPORTS)
"""Of two graphs compared (`explgraph.answers.comparison`)."""


def check_suffix(path: str | os.PathLike[str], known: Sequence[str], argument: str = "path") -> str:
    """Give a path's suffix in lower case; refuse those that aren't known."""
    suffix = checked_path(path, argument).suffix.lower()
    if suffix not in known:
        raise ExplgraphError(
            f"{argument} {str(path)!r}: suffix {suffix!r}; expected one of {', '.join(known)}"
        )
    return suffix
