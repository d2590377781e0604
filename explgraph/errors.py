"""The exception type for a user's mistakes, and the warning."""

__all__ = ["ExplgraphError", "ExplgraphWarning", "MissingPackageError"]


class ExplgraphError(ValueError):
    """Input that explgraph can't work with; the message says what was found and what to do."""


class MissingPackageError(ExplgraphError, ImportError):
    """A module needs a package that isn't there; the message names the extra that brings it."""


class ExplgraphWarning(UserWarning):
    """Something that a user should know, though the result stands."""
