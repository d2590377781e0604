"""What a network gave for images: in memory, on disk, and going over it in blocks and processes.

May use images and the network; the statistics are none of its business.
"""
