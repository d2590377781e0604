"""From activations to a graph: learning poses and patterns, linking nodes, the loop.

May use graphs as users have them (`explanatory_graph`) and all below.
"""
