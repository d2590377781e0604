"""Lets ``python -m explgraph`` do what ``explgraph`` does."""

import sys

from explgraph.cli import main

sys.exit(main())
