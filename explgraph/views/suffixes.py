"""The suffixes of files that graphs and trees are written to.

Apart from what writes them, so that the command line can tell them at once.
"""

from __future__ import annotations

__all__ = ["DRAWINGS", "SUFFIXES", "TREE_SUFFIXES"]

DRAWINGS = (".svg", ".png", ".pdf")
SUFFIXES = (".dot", ".gv", *DRAWINGS, ".graphml", ".gexf", ".gml", ".json", ".cyjs", ".html")
"""Of graphs (`explgraph.views.export.write`)."""
TREE_SUFFIXES = (".html", ".dot", ".gv", ".json")
"""Of decision trees (`explgraph.answers.tree_files.write`)."""
