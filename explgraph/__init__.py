"""Explanatory graphs: the object parts behind the filters of a trained CNN."""
