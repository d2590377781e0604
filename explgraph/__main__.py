"""Lets ``python -m explgraph`` do what ``explgraph`` does, and ends both well if stopped early."""

import sys

__all__ = ["run"]


def run() -> int:
    """Run the command line: see `explgraph.cli.entry`."""
    try:
        from explgraph.cli.entry import main

        return main()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(run())
