"""Files that went wrong on the way: cut off, or with a byte changed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import zipfile

import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from explgraph.errors import ExplgraphError


def refused_or_the_same(file, load, same, flips=150):
    """Check that damage is told, or stands where nothing is said about the object."""
    content = file.read_bytes()
    rng = np.random.default_rng(0)
    for length in rng.integers(0, len(content), 20):
        file.write_bytes(content[:length])
        with pytest.raises(ExplgraphError, match=r"truncated|empty|is not a"):
            load(file)
    for place in rng.integers(0, len(content), flips):
        flipped = bytearray(content)
        flipped[place] ^= rng.integers(1, 256)
        file.write_bytes(flipped)
        with contextlib.suppress(ExplgraphError):
            assert same(load(file))
    file.write_bytes(content)


def edited(file, change):
    """Change the JSON and the arrays of an archive, the sums being right again."""
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest, text, arrays = members
    content = json.loads(members[text])
    values = dict(safetensors_numpy.load(members[arrays]))
    change(content, values)
    members[text] = json.dumps(content).encode()
    members[arrays] = safetensors_numpy.save(values)
    told = json.loads(members[manifest])
    told["sha256"] = {k: hashlib.sha256(members[k]).hexdigest() for k in (text, arrays)}
    members[manifest] = json.dumps(told).encode()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
