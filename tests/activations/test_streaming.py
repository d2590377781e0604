"""Sums, best-of lists and tables against what numpy does with all images at once."""

import numpy as np
import pytest
import torch
from alike import assert_alike
from numpy.testing import assert_allclose, assert_array_equal
from planted import plant

from explgraph.activations import streaming
from explgraph.activations.checkpoint import Checkpoint
from explgraph.activations.processes import Team
from explgraph.activations.streaming import BLOCK, Images, Table
from explgraph.mining.mining import mine_activations

SIZES = [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5]


def numbers(n, *shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).random((n, *shape))).float()


@pytest.mark.parametrize("n", SIZES)
def test_blocks_are_all_images_once(n):
    blocks = list(Images(n))
    assert [i for here in blocks for i in range(n)[here]] == list(range(n))
    assert all(here.start % BLOCK == 0 for here in blocks)


@pytest.mark.parametrize("n", SIZES)
def test_sums_are_in_float64(n):
    values = numbers(n, 3) + 1e4
    before = values.clone()
    first, second = Images(n).sum(
        (values[here].double().sum(0), values[here].double().square().sum(0)) for here in Images(n)
    )
    assert first.dtype == torch.float64
    assert_allclose(first, values.double().sum(0), rtol=1e-14)
    assert_allclose(second, values.double().square().sum(0), rtol=1e-14)
    assert_array_equal(values, before)


def test_a_single_blocks_own_tensor_is_not_added_to():
    part = torch.ones(2, dtype=torch.float64)
    (total,) = Images(2).sum((part,) for _ in range(3))
    assert_array_equal(total, [3, 3])
    assert_array_equal(part, [1, 1])


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("k", [1, 4, 200])
def test_largest_is_sorting(n, k):
    keys, values = numbers(n, 5), numbers(n, 5, 2, seed=1)
    best, belongs = Images(n).largest(
        k, ((keys[here].T, values[here].transpose(0, 1)) for here in Images(n))
    )
    order = np.argsort(-keys.numpy(), 0)[:k].T
    for v in range(5):
        assert_array_equal(best[v], keys[order[v], v])
        assert_array_equal(belongs[v], values[order[v], v])


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("n", SIZES)
def test_tables_give_back_their_rows(n, folder, tmp_path):
    values = numbers(n, 4, 3)
    images = Images(n, folder=tmp_path if folder else None)
    table = images.table(values[here] for here in images)
    assert table.shape == (n, 4, 3)
    assert len(list(tmp_path.iterdir())) == folder
    some, nodes = torch.arange(n)[:: max(1, n // 3)], torch.tensor([2, 0])
    for here in (*images, slice(0, n), some):
        assert_array_equal(table.read(here), values[here])
        assert_array_equal(table.read(here, nodes), values[here][:, nodes])
        assert_array_equal(table.read(here, slice(1, 3)), values[here][:, 1:3])


@pytest.mark.parametrize("n", SIZES)
def test_picked_rows_are_those_of_the_sample(n):
    values = numbers(n, 4, 2)
    sample = torch.randperm(n, generator=torch.Generator().manual_seed(n))[: max(1, n // 3)].sort()[
        0
    ]
    images = Images(n)

    def rows():
        for here in images:
            which = ((sample >= here.start) & (sample < here.stop)).nonzero()[:, 0]
            yield which, values[sample[which]]

    picked = images.pick(len(sample), rows())
    assert picked.dtype == torch.float32
    assert_array_equal(picked, values[sample])


def test_picked_rows_come_in_the_order_of_their_numbers():
    values = numbers(5, 3)
    parts = [(torch.tensor([3, 0]), values[[3, 0]]), (torch.zeros(0).long(), values[:0])]
    parts.append((torch.tensor([4, 1]), values[[4, 1]]))
    picked = Images(5).pick(5, iter(parts))
    assert_array_equal(picked[[0, 1, 3, 4]], values[[0, 1, 3, 4]])
    assert (picked[2] == 0).all()  # nobody had it


def test_picking_is_not_done_again_after_an_interruption(tmp_path):
    values = numbers(BLOCK + 3, 2)
    done = []

    def rows():
        for here in Images(len(values)):
            done.append(here)
            yield torch.arange(len(values))[here], values[here]

    for _ in range(2):
        images = Images(len(values), checkpoint=Checkpoint(tmp_path, {"job": 1}, Team()))
        assert_array_equal(images.pick(len(values), rows()), values)
    assert len(done) == 2  # blocks, once


def test_tables_without_nodes(tmp_path):
    for file in (None, tmp_path / "none.npy"):
        table = Table(range(4), [torch.zeros(3, 0, 2), torch.zeros(1, 0, 2)], file)
        assert table.read(slice(1, 4)).shape == (3, 0, 2)


@pytest.mark.parametrize("n", [1, 5, 40])
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_work_is_shared_out_and_put_together(n, size):
    """Whatever a process's own share is wide."""
    numbers_, flags = numbers(n, 4), torch.arange(n) % 3 == 0

    def work(here):
        rows = torch.arange(n)[here]
        width = 1 + int(rows.max()) % 4  # as some have more patterns than others
        return rows, flags[here], numbers_[here][:, :width]

    class Seen(Team):
        """One of several processes that do the same one after the other."""

        def __init__(self, rank, others):
            self.rank, self.size, self.others = rank, size, others

        def gather(self, _):
            shares = [self.of(rank) for rank in range(size)]
            return [torch.tensor([work(here)[2].shape[1]]) for here in shares]

        def of(self, rank):
            return slice(n * rank // size, n * (rank + 1) // size)

        def sum(self, values):
            self.others.append([v.double() for v in values])
            return tuple(v.double() for v in values)

    sent, parts = [], []
    for rank in range(size):
        images = Images(32 * size, team=Seen(rank, sent))
        parts.append(images.shared(n, work))
    if n < size:  # all do all
        assert not sent
        rows, there, wide = parts[-1]
    else:
        rows, there, wide = (sum(values) for values in zip(*sent, strict=True))
    assert_array_equal(rows, torch.arange(n))
    assert_array_equal(there.bool(), flags)
    for rank in range(size):
        here = slice(0, n) if n < size else slice(n * rank // size, n * (rank + 1) // size)
        width = work(here)[2].shape[1]
        assert_allclose(wide[here, :width], numbers_[here, :width])
        assert not wide[here, width:].any()
    for own in parts:
        assert [p.dtype for p in own] == [torch.int64, torch.bool, torch.float32]


def test_shared_work_is_done_once(tmp_path):
    done = []

    def work(here):
        done.append(here)
        return [torch.arange(5)[here].float()]

    for _ in range(2):
        images = Images(40, checkpoint=Checkpoint(tmp_path, {"job": 1}, Team()))
        assert_array_equal(images.shared(5, work)[0], torch.arange(5))
    assert done == [slice(0, 5)]


# ------------------------------------------------------------------------------------------ mining


@pytest.fixture(scope="module")
def world():
    return plant(80)


@pytest.mark.parametrize("block", [7, 80, 1000])
def test_the_size_of_blocks_does_not_matter(world, block, monkeypatch):
    """All images in one block: nothing is added up, as if there were no streaming."""
    graph = mine_activations(world.activations)
    monkeypatch.setattr(streaming, "BLOCK", block)
    assert_alike(mine_activations(world.activations), graph)
