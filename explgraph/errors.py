"""The one exception type for a user's mistakes."""

__all__ = ["ExplgraphError", "ExplgraphWarning"]


class ExplgraphError(ValueError):
    """Input that explgraph can't work with; the message says what was found and what to do."""


class ExplgraphWarning(UserWarning):
    """Something that a user should know, though the result stands."""
