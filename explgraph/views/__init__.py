"""Graphs for people: drawings, other programs' files, the page, pictures of nodes and filters.

May use graphs, parses and all below them.
"""
