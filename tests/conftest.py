"""What all tests share."""

import os

# Several test processes (pytest -n) must not each start a thread for every core; torch reads this
# when it is first imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
