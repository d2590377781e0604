"""Photographs, tensors and datasets as a network takes them: normalised batches with names.

May use nothing of explgraph but errors and how text files are read.
"""
