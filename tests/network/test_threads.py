"""Threads that share a model: every call gets what it gets alone, and the user's own calls too."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import explgraph
from explgraph import creatures
from explgraph.answers.evidence import node_evidence
from explgraph.network.hooks import catch

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def network():
    return creatures.network()


@pytest.fixture(scope="module")
def graph(network):
    return explgraph.mine(network, creatures.draw(40, seed=0).tensor(), creatures.LAYERS)


def at_once(work, jobs, threads=4):
    """Do jobs in threads that start together."""
    start = threading.Barrier(threads)

    def first(job):
        if job < threads:
            start.wait()
        return work(job)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(first, range(jobs)))


def test_parses(network, graph):
    images = [creatures.draw(4, seed=seed).tensor() for seed in range(6)]
    alone = [graph.parse(network, one, batch_size=2) for one in images]
    for job, found in enumerate(
        at_once(lambda job: graph.parse(network, images[job % 6], batch_size=2), 24)
    ):
        np.testing.assert_array_equal(found.positions, alone[job % 6].positions)
        np.testing.assert_array_equal(found.scores, alone[job % 6].scores)
    assert not any(module._forward_hooks for module in network.modules())


def test_mining_and_answers_beside_each_other(network, graph):
    images = creatures.draw(40, seed=0).tensor()
    few = images[:6]

    def work(job):
        if job % 3 == 0:
            return explgraph.mine(network, images, creatures.LAYERS)
        if job % 3 == 1:
            return explgraph.record(network, few, creatures.LAYERS).maps
        return node_evidence(network, graph, few, [0, 1]).values

    maps = explgraph.record(network, few, creatures.LAYERS).maps
    evidence = node_evidence(network, graph, few, [0, 1]).values
    for job, found in enumerate(at_once(work, 6, threads=3)):
        if job % 3 == 0:
            assert found == graph
        elif job % 3 == 1:
            assert all(torch.equal(a, b) for a, b in zip(found, maps, strict=True))
        else:
            np.testing.assert_array_equal(found, evidence)


def test_the_user_s_own_forward_passes_are_not_touched(network):
    """Not cut short by the end of ours, which comes as soon as a layer is caught."""
    images = creatures.draw(2, seed=0).tensor()
    with torch.inference_mode():
        truth = network(images)
    done = threading.Event()

    def ours(_):
        while not done.is_set():
            kept, _ = catch(network, images, ["stage2"], lambda _, output: output.shape)
            assert kept["stage2"][0] == 2

    def theirs(_):
        with torch.inference_mode():
            return [network(images) for _ in range(200)]

    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(ours, 0)
        found = pool.submit(theirs, 0).result()
        done.set()
        running.result()
    for scores in found:
        torch.testing.assert_close(scores, truth)
