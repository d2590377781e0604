"""Words for parts: image-text encoders, and which word of a list suits a part beyond chance.

May use views' pictures, parses, graphs and all below them.
"""
