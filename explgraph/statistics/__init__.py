"""The model: mixtures of part patterns, poses, reliability, and `Fitted`, their one record.

Pure functions of tensors. May use of the network only where its units look (`geometry.Layer`).
"""
