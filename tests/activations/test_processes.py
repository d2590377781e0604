"""Several processes give the graph that one gives."""

import json
import os
import subprocess
import sys

import forked
import pytest
import torch
from alike import assert_alike
from numpy.testing import assert_array_equal
from PIL import Image

import explgraph
from explgraph import creatures
from explgraph.activations.processes import Team, joined
from explgraph.activations.streaming import BLOCK, Images
from explgraph.errors import ExplgraphError
from explgraph.mining.mining import mine


def by_ranks(what, number, folder):
    """Fork processes that do the job; their exit codes and what they complained about."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, forked.__file__, what, str(number), folder],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """What one process gives."""
    folder = tmp_path_factory.mktemp("one")
    forked.job(folder)
    return explgraph.load(folder / "graph.explgraph")


@pytest.mark.python311
@pytest.mark.parametrize("number", [2, 3])
def test_processes_give_the_graph_of_one(graph, tmp_path, number):
    """Recording shared, too: every image went through the network once."""
    codes, said = by_ranks("ranks", number, tmp_path)
    assert codes == [0] * number, said
    assert_alike(explgraph.load(tmp_path / "graph.explgraph"), graph)
    marks = (tmp_path / "marks").read_text().split()
    assert sum(map(int, marks)) == forked.N


@pytest.mark.python311
def test_a_process_that_dies_ends_the_others_and_the_run_resumes(graph, tmp_path):
    codes, said = by_ranks("death", 2, tmp_path)
    assert codes == [1, 7]
    assert "another process has ended" in said
    assert "Run the same command again" in said
    assert not (tmp_path / "graph.explgraph").exists()
    codes, said = by_ranks("ranks", 3, tmp_path)  # as many as like
    assert codes == [0] * 3, said
    assert_alike(explgraph.load(tmp_path / "graph.explgraph"), graph)
    marks = (tmp_path / "marks").read_text().split()
    assert sum(map(int, marks)) == forked.N  # nothing was recorded again


@pytest.mark.python311
def test_torchrun(tmp_path):
    """The command as documented, on photographs."""
    (tmp_path / "pictures").mkdir()
    for i, pixels in enumerate(creatures.draw(BLOCK + 8, seed=5).images):
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{i}.png")
    ready = {"size": 112, "mean": (0.5,) * 3, "std": (0.25,) * 3}
    command = (
        "-m torch.distributed.run --nproc-per-node 2 -m explgraph mine --images pictures "
        "--size 112 --mean 0.5 --std 0.25 --model explgraph.creatures:network "
        "--layers stage4,stage3 --store store --out out --formats none"
    )
    done = subprocess.run(
        [sys.executable, *command.split()], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("nodes and") == 1  # one process tells
    images = explgraph.ImageFolder(tmp_path / "pictures", **ready)
    model = creatures.network()
    one = mine(model, images, ["stage4", "stage3"], store=tmp_path / "one")
    assert_alike(explgraph.load(tmp_path / "out" / "graph.explgraph"), one)
    assert not (tmp_path / "out" / "unfinished").exists()


def test_without_others_a_team_is_one():
    with joined() as team:
        assert (team.rank, team.size) == (0, 1)
        assert team.share(7) == range(7)
        value = torch.arange(3.0)
        assert_array_equal(team.sum([value])[0], value)
        assert_array_equal(team.gather(value)[0], value)
        assert team.first(b"x") == b"x"
        assert team.first(None) is None
        assert team.all_of(True)
        assert not team.all_of(False)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("n", [0, 1, 7, 20])
def test_shares_are_everything_once(size, n):
    shares = []
    for rank in range(size):
        team = Team()
        team.rank, team.size = rank, size
        shares.append(team.share(n))
    assert [i for share in shares for i in share] == list(range(n))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_more_processes_than_blocks_are_refused():
    team = Team()
    team.size = 3
    with pytest.raises(ExplgraphError, match=r"40 images are 2 groups of 32, .* start at most 2"):
        Images(40, team=team)


def test_several_processes_need_a_store(monkeypatch):
    monkeypatch.setattr("explgraph.activations.processes.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("explgraph.activations.processes.distributed.get_world_size", lambda: 2)
    monkeypatch.setattr("explgraph.activations.processes.distributed.get_rank", lambda: 0)
    monkeypatch.setattr("explgraph.activations.processes.distributed.get_backend", lambda: "gloo")
    with pytest.raises(ExplgraphError, match="several processes need store="):
        mine(creatures.network(), torch.zeros(40, 3, 112, 112), ["stage4"])


@pytest.mark.parametrize("n", [3 * BLOCK + 1, 2000])
def test_blocks_and_groups_are_the_same_whoever_has_them(n):
    whole = Images(n)
    parts = []
    for rank in range(3):
        team = Team()
        team.rank, team.size = rank, 3
        parts.append(Images(n, team=team))
    assert [here for part in parts for here in part] == list(whole)
    assert [here for part in parts for here in part.groups()] == list(whole.groups())
