"""Whatever lies in a file that is read: a result, or an error in our own words.

The long form, with damage to whole files, is `benchmarks/faults.py`.
"""

import json
import zipfile

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import explgraph
from explgraph import DecisionTree, ExplgraphError, ImageFolder, Parse
from explgraph.annotations.recognising import read_annotations
from explgraph.answers.ablation import Ablation
from explgraph.answers.judged import Judged
from explgraph.answers.label_files import read_attributes, read_expected
from explgraph.answers.located import Located
from explgraph.answers.relations import Bias
from explgraph.cli import entry
from explgraph.evaluation import table
from explgraph.evaluation.landmarks import read_landmarks
from explgraph.graph.labels import read_labels
from explgraph.network.models import load_model

NESTED = [b"[" * 100_000, b'{"a":' * 100_000, b'{"images":' * 50_000]
STRANGE = [
    *NESTED, b"", b"\0", b"null", b"NaN", b"1e999", b"9" * 6000, b"\xff\xfe", b"\x93NUMPY",
    b"PK\x03\x04", b'{"format": []}', b'"', b"a,b\n1,2,3\n", b"PAR1",
]  # fmt: skip
READERS = {
    "a.explgraph": explgraph.load,
    "a.tree": DecisionTree.load,
    "a.bias": Bias.load,
    "labels.json": read_labels,
    "parse.json": Parse.read,
    "parse.csv": Parse.read,
    "parse.npz": Parse.read,
    "located.json": Located.read,
    "judged.csv": Judged.read,
    "ablation.json": Ablation.read,
    "rows.json": table.read,
    "marks.json": read_landmarks,
    "marks.csv": read_landmarks,
    "marks.xml": read_landmarks,
    "boxes.json": lambda path: read_annotations(path, "boxes"),
    "boxes.txt": lambda path: read_annotations(path, "boxes"),
    "attributes.csv": lambda path: read_attributes(path, ["a"]),
    "expected.csv": read_expected,
    "weights.safetensors": lambda path: load_model("explgraph.creatures:network", weights=path),
    "weights.pt": lambda path: load_model("explgraph.creatures:network", weights=path),
}
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["format", "format_version", "images", "parts", "labels", "image", "x"])
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
often = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def ours(read, path):
    """Read; the only error there may be is ours."""
    said = path.name
    try:
        read(path)
    except ExplgraphError as err:
        said = str(err)
    assert path.name in said


@pytest.mark.parametrize("name", READERS)
def test_strange_files(tmp_path, name):
    for content in STRANGE:
        (tmp_path / name).write_bytes(content)
        ours(READERS[name], tmp_path / name)


@pytest.mark.parametrize("name", [n for n in READERS if n.endswith(".json")])
@often
@given(value=values)
def test_any_json(tmp_path, name, value):
    (tmp_path / name).write_text(json.dumps(value), "utf-8")
    ours(READERS[name], tmp_path / name)


@pytest.mark.parametrize("name", [n for n in READERS if n.endswith(".csv")])
@often
@given(text=st.text('name,partxy01."\n\r\0é=-', max_size=80))
def test_any_table(tmp_path, name, text):
    (tmp_path / name).write_bytes(text.encode())
    ours(READERS[name], tmp_path / name)


@often
@given(arrays=st.dictionaries(
    st.sampled_from(["nodes.npy", "names.npy", "positions.npy", "scores.npy", "image_size.npy"]),
    st.binary(max_size=60).map(lambda tail: b"\x93NUMPY\x01\x00" + tail), max_size=5,
))  # fmt: skip
def test_any_arrays(tmp_path, arrays):
    with zipfile.ZipFile(tmp_path / "parse.npz", "w") as archive:
        for name, content in arrays.items():
            archive.writestr(name, content)
    ours(Parse.read, tmp_path / "parse.npz")


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "tif", "webp", "ppm", "jp2"])
def test_strange_images(tmp_path, suffix):
    for content in (*STRANGE, b"P6 99999 99999 255\n", b"GIF89a\xff\xff\xff\xff", b"II*\0\xff\xff"):
        (tmp_path / f"a.{suffix}").write_bytes(content)
        with pytest.raises(ExplgraphError, match=rf"a\.{suffix}"):
            ImageFolder(tmp_path, size=16)


@pytest.mark.parametrize("content", NESTED)
def test_nested_json_at_the_command_line(tmp_path, capsys, content):
    from PIL import Image

    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    (tmp_path / "source.json").write_bytes(content)
    options = f"--images {tmp_path} --size 16 --one-per-source {tmp_path / 'source.json'}"
    command = "record --model explgraph.creatures:network --layers stage4"
    done = entry.main([*command.split(), *options.split(), "--store", str(tmp_path / "s")])
    assert done == 1
    assert "isn't JSON" in capsys.readouterr().err


def test_weights_that_are_no_tensors(tmp_path):
    for value in ([1], {"a": 1}, {"state_dict": [torch.zeros(1)]}, torch.zeros(2), {1: 2}):
        torch.save(value, tmp_path / "weights.pt")
        with pytest.raises(ExplgraphError, match=r"weights .*weights.pt"):
            load_model("explgraph.creatures:network", weights=tmp_path / "weights.pt")
