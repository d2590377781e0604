"""Interrupted runs: killed at random moments they end with the graph of an undisturbed one."""

import json
import random
import shutil
import subprocess
import sys

import forked
import pytest
import torch
from numpy.testing import assert_array_equal
from planted import plant

import explgraph
from explgraph.activations.checkpoint import Checkpoint, discard
from explgraph.activations.memory import Activations
from explgraph.activations.processes import Team
from explgraph.errors import ExplgraphError
from explgraph.mining import choose_pose, mine_layer
from explgraph.mining.mining import mine_activations
from explgraph.mining.settings import Settings


def checkpoint(folder, **job):
    return Checkpoint(folder, job, Team())


def counted(calls, *values):
    def compute():
        calls.append(1)
        return values

    return compute


def test_steps_are_done_once(tmp_path):
    calls = []
    first, second = torch.arange(6).reshape(2, 3), torch.tensor([1.5], dtype=torch.float64)
    for _ in range(3):
        kept = checkpoint(tmp_path)
        for _ in range(2):
            one, other = kept.once(counted(calls, first, second))
            assert_array_equal(one, first)
            assert_array_equal(other, second)
            assert one.dtype == first.dtype
            assert other.dtype == second.dtype
    assert len(calls) == 2


def test_a_step_that_fails_is_not_kept(tmp_path):
    def fail():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checkpoint(tmp_path).once(fail)
    calls = []
    checkpoint(tmp_path).once(counted(calls, torch.ones(1)))
    assert calls == [1]


def test_another_job_is_refused(tmp_path):
    checkpoint(tmp_path, seed=0, settings={"apart": 0.1})
    checkpoint(tmp_path, seed=0, settings={"apart": 0.1})
    with pytest.raises(ExplgraphError, match=r"is of another job: seed differ; .* delete this one"):
        checkpoint(tmp_path, seed=1, settings={"apart": 0.1})
    (tmp_path / "job.json").write_text("[")
    with pytest.raises(ExplgraphError, match=r"job.json' can't be read"):
        checkpoint(tmp_path)


def test_a_damaged_step_is_named(tmp_path):
    checkpoint(tmp_path).once(lambda: [torch.ones(1)])
    (tmp_path / "000001.safetensors").write_bytes(b"nothing")
    with pytest.raises(ExplgraphError, match=r"000001.safetensors' is damaged"):
        checkpoint(tmp_path).once(lambda: [torch.ones(1)])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small job's activations, its graph, and all of its steps."""
    activations, folder = plant(40).activations, tmp_path_factory.mktemp("finished")
    return activations, mine_activations(activations, checkpoint=folder), folder


def test_no_changed_byte_gives_another_graph(finished, tmp_path):
    activations, graph, folder = finished
    files = sorted(folder.iterdir())
    assert len(files) > 8
    rng = random.Random(0)
    for number, file in enumerate(files):
        content = file.read_bytes()
        changed = bytearray(content)
        changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        for wrong in [changed, content[:-1]][: 1 + (number < 2)]:
            copy = shutil.copytree(folder, tmp_path / "copy", dirs_exist_ok=True)
            (copy / file.name).write_bytes(wrong)
            with pytest.raises(ExplgraphError, match=r"damaged|another job|can't be read"):
                mine_activations(activations, checkpoint=copy)
    assert mine_activations(activations, checkpoint=folder) == graph


def test_steps_that_are_exchanged_or_of_another_job_are_noticed(finished, tmp_path):
    activations, _, folder = finished
    other = tmp_path / "other"
    mine_activations(activations, checkpoint=other, seed=1)
    steps = sorted(file.name for file in folder.glob("0*"))
    for kind in ("safetensors", "npy"):
        one, two = [name for name in steps if name.endswith(kind)][:2]
        copy = shutil.copytree(folder, tmp_path / kind)
        (copy / one).write_bytes((folder / two).read_bytes())
        (copy / two).write_bytes((folder / one).read_bytes())
        with pytest.raises(ExplgraphError, match=r"damaged, or not in its place; delete its fol"):
            mine_activations(activations, checkpoint=copy)
    copy = shutil.copytree(folder, tmp_path / "mixed")
    shutil.copy(other / steps[0], copy)
    with pytest.raises(ExplgraphError, match=f"{steps[0]}' is damaged, or not in its place"):
        mine_activations(activations, checkpoint=copy)


def test_a_job_nested_without_end_is_refused(tmp_path):
    (tmp_path / "job.json").write_text("[" * 100_000)
    with pytest.raises(ExplgraphError, match=r"job.json' can't be read"):
        checkpoint(tmp_path)


def test_discarding_takes_only_its_own_files(tmp_path):
    folder = tmp_path / "kept"
    checkpoint(folder).once(lambda: [torch.ones(1)])
    (folder / ".000002-0-32-abc.npy").touch()  # half written when a process was killed
    (folder / ".job-abc.json").touch()
    (folder / "notes.txt").touch()
    discard(folder)
    assert [file.name for file in folder.iterdir()] == ["notes.txt"]
    (folder / "notes.txt").unlink()
    discard(folder)
    assert not folder.exists()
    discard(folder)


def test_mining_with_a_checkpoint_gives_the_same_graph(tmp_path):
    activations = plant(70).activations
    graph = mine_activations(activations)
    assert mine_activations(activations, checkpoint=tmp_path) == graph
    assert mine_activations(activations, checkpoint=tmp_path) == graph
    with pytest.raises(ExplgraphError, match="another job: settings differ"):
        mine_activations(activations, checkpoint=tmp_path, settings=Settings(apart=0.2))
    with pytest.raises(ExplgraphError, match="another job: activations, seed differ"):
        mine_activations(plant(70, seed=1).activations, checkpoint=tmp_path, seed=1)


def test_finished_passes_never_touch_the_maps_again(tmp_path, monkeypatch):
    activations = plant(70).activations
    graph = mine_activations(activations, checkpoint=tmp_path)
    passes = []
    blocks = Activations.blocks

    def watched(self, *args):
        passes.append(args)
        return blocks(self, *args)

    monkeypatch.setattr(Activations, "blocks", watched)
    monkeypatch.setattr(Activations, "in_memory", False)
    assert mine_activations(activations, checkpoint=tmp_path) == graph
    assert not passes

    # killed in the middle of finding the lowest layer's nodes: poses and patterns are kept
    _poses, _upper, lower, *_edges = sorted(tmp_path.glob("0*.npy"))
    for file in sorted(tmp_path.glob("0*")):
        if file >= lower:
            file.unlink()
    monkeypatch.setattr(choose_pose, "learn_reader", None)
    monkeypatch.setattr(mine_layer, "find_patterns", None)
    assert mine_activations(activations, checkpoint=tmp_path) == graph
    assert len(passes) == 1


def test_the_sample_s_maps_are_not_kept(tmp_path):
    activations = plant(70).activations
    mine_activations(activations, checkpoint=tmp_path)
    maps = max(4 * m.numel() for m in activations.maps)
    steps = [file.stat().st_size for file in tmp_path.glob("0*")]
    assert max(steps) < 0.3 * maps


@pytest.mark.python311
def test_killed_at_random_moments_the_graph_is_the_same(tmp_path):
    """At least 24 times in all, in recording and in mining, by kill -9 and Ctrl-C."""
    whole = tmp_path / "whole"
    whole.mkdir()
    forked.job(whole)
    graph = explgraph.load(whole / "graph.explgraph")
    assert graph.nx.number_of_edges()
    done = subprocess.run(
        [sys.executable, forked.__file__, "kills", tmp_path],
        capture_output=True, text=True, check=True, timeout=200,
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert sum(report["killed"].values()) >= 24
    assert min(report["killed"].values()) >= 6
    for i, happened in enumerate(report["rounds"]):
        assert explgraph.load(tmp_path / str(i) / "graph.explgraph") == graph
        # of five chunks, at most one is recorded again for each time that it was killed
        assert happened["batches"] <= 5 + happened["kills"]
