"""Circuits: the smallest set of parts or nodes that a score is left with when all else goes.

May use explanations, views, parses, graphs and all below them.
"""
