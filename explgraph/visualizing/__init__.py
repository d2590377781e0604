"""What nodes answer to, as images: masks, optimised images, inversions.

May use parses, graphs and all below them, but not the drawing of what it computes (`views`).
"""
