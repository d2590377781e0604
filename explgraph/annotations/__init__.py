"""Marks and boxes from the programs that people annotate images with.

A file for each format, which reads it into one common form (`annotated`); `recognising` tells them
apart by their content, `photographs` finds the photographs that they name.
"""
