"""The graph: its schema, nodes and edges, its file, and people's decisions on nodes.

May use the statistics and `geometry.Layer`; knows neither images nor other programs' files.
"""
