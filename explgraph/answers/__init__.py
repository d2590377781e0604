"""What a graph is good for: answers to questions about the network and its images.

May use the evaluation, views, graphs and all below.
"""
