"""Lets ``python -m explgraph`` do what ``explgraph`` does."""

import sys

from explgraph.cli.entry import main

sys.exit(main())
