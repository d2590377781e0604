"""How good nodes are: measures, baselines and controls, landmarks, the table.

May use parsing, graphs and all below; how a graph was mined is none of its business.
"""
