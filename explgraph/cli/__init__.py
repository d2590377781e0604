"""The command line: one file for each family of commands.

May use everything; holds nothing that Python users can't do.
"""
