"""Networks of parts: a read-out on a graph's parts, and losses that teach a network by parts.

May use explanations, views, parses, graphs and all below them.
"""
