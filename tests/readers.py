"""Tables as pandas reads them, by suffix: the other program that results are written for."""

from __future__ import annotations

import pytest


def needed(suffix):
    """Skip a test if what reads files of this suffix isn't there."""
    pandas = pytest.importorskip("pandas")
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    return pandas


def frame(file, **options):
    """Give the table in a file."""
    pandas = needed(file.suffix)
    readers = {".csv": pandas.read_csv, ".json": pandas.read_json, ".parquet": pandas.read_parquet}
    return readers[file.suffix](file, **options)
