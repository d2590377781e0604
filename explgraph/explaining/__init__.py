"""What nodes and parts do to a network's score: running it with maps changed, one image explained.

May use views, parses, graphs and all below them.
"""
