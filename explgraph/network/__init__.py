"""A torch module looked at: loaded by name, its hooks, layers and where units look, running it.

May use images.
"""
