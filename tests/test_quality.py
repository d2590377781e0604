"""The quality benchmark's own logic, with stand-ins for mining and for photographs."""

from types import SimpleNamespace

import networkx
import numpy as np
import pytest
import torch

from benchmarks import quality
from explgraph import metrics
from explgraph.geometry import Layer
from explgraph.recording import Activations


@pytest.fixture
def sample():
    """A blob that every filter of both layers follows, 24 images, two of them unmarked."""
    rng = np.random.default_rng(0)
    place = rng.uniform(16, 48, (24, 2))
    layers, maps = [], []
    for index, (channels, side) in enumerate([(12, 8), (8, 4)]):
        stride = 64 / side
        layers.append(
            Layer(
                f"l{index}", index, channels, side, side, (stride,) * 2, (stride / 2,) * 2, (9, 9)
            )
        )
        at = (np.arange(side) + 0.5) * stride
        gap = (at[None, None, :] - place[:, 0, None, None]) ** 2 + (
            at[None, :, None] - place[:, 1, None, None]
        ) ** 2
        blob = np.exp(-gap / 128)[:, None]
        maps.append(torch.from_numpy(blob * rng.uniform(0.5, 1, (24, channels, 1, 1))).float())
    landmarks = place + np.array([3.0, 0.0])
    landmarks[:2] = np.nan
    activations = Activations(tuple(layers), tuple(map(str, range(24))), (64, 64), maps)
    return quality.Sample(activations, landmarks)


def peaks_engine():
    """Every filter's peak is a node; how well filters agree on this data is their reliability."""

    def places(activations):
        found = [
            metrics.raw_peaks(m.numpy(), layer)
            for layer, m in zip(activations.layers, activations.maps, strict=True)
        ]
        return (np.concatenate([f[i] for f in found], axis=1) for i in (0, 1))

    def mine(activations, *, seed, **options):
        del seed, options
        graph = networkx.DiGraph()
        positions, _ = places(activations)
        middle = np.median(positions, axis=1, keepdims=True)
        wrong = np.linalg.norm(positions - middle, axis=-1).mean(axis=0)
        keys = [(la.name, c) for la in activations.layers for c in range(la.channels)]
        for (layer, c), error in zip(keys, wrong, strict=True):
            reliability = 1 / (1 + float(error))
            graph.add_node(
                f"{layer}/{c}/0", layer=layer, filter=c, reliability=reliability, energy=0.5
            )
        return SimpleNamespace(nx=graph)

    def parse(graph, activations):
        positions, scores = places(activations)
        expected = np.full_like(positions, 32.0)
        return SimpleNamespace(
            nodes=tuple(graph.nx), positions=positions, expected=expected, scores=scores
        )

    return quality.Engine(mine, parse)


def by_method(rows, layer):
    return {row["method"]: row for row in rows if row["layer"] == layer}


def test_rows_of_a_graph(sample):
    rows = list(quality.graph_rows(peaks_engine(), sample, quality.METHODS, seed=0))
    lower, together = by_method(rows, "l0"), by_method(rows, quality.ALL_LAYERS)
    assert lower["nodes, all"]["nodes"] == 12
    assert lower["nodes, all"]["images"] == 22
    assert lower["nodes, all"]["energy"] == pytest.approx(0.5)
    assert lower["nodes, best quarter"]["nodes"] == 3
    assert together["nodes, best quarter"]["nodes"] == 3 + 2
    # the stand-in follows the blob by its own evidence: only its own maps give that
    assert lower["nodes, best quarter"]["tracking"] > 0.8
    assert lower["best quarter, evidence shuffled"]["tracking"] < 0.2
    assert lower["best quarter, prior only"]["tracking"] == pytest.approx(0, abs=1e-9)
    assert lower["mined with decoys"]["decoys, quarter"] == 0
    assert lower["mined with decoys"]["decoys, all"] == 0.5
    assert lower["best quarter, other half"]["images"] == 11
    assert lower["agreement between halves"]["agreement"] == 1
    for ablation in quality.ABLATIONS:
        assert lower[f"best quarter, {ablation}"]["nodes"] == 3


def test_rows_of_the_baselines(sample):
    rows = list(quality.baseline_rows(sample, ["grid", "peaks", "ridge", "published"], seed=0))
    assert [(row["layer"], row["method"]) for row in rows] == [
        ("none", "constant grid"),
        *((la, m) for la in ("l1", "l0") for m in ("raw peaks", "ridge, activations",
                                                   "ridge, raw peaks")),
        *((la, m) for m in quality.PUBLISHED for la in ("l1", "l0")),
    ]  # fmt: skip
    assert rows[0]["tracking"] == pytest.approx(0, abs=1e-9)
    assert by_method(rows, "l0")["raw peaks"]["tracking"] > 0.8
    assert by_method(rows, "l0")["ridge, raw peaks"]["ridge"] < 0.06


def test_ridge_is_that_of_the_full_features():
    """The reduction to scalar products changes nothing."""
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import KFold

    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 300)).astype(np.float32)
    truth = x[:, :2].astype(np.float64) * 10 + 50 + rng.normal(size=(40, 2))
    landmarks = np.concatenate([truth, np.full((3, 2), np.nan)])
    features = np.concatenate([x, np.ones((3, 300), np.float32)])
    centred = (x - x.mean(axis=0)).astype(np.float64)
    strengths = np.logspace(-4, 4, 17) * np.linalg.eigvalsh(centred @ centred.T).mean()
    errors = []
    for train, test in KFold(5, shuffle=True, random_state=0).split(x):
        model = RidgeCV(strengths).fit(centred[train], truth[train])
        errors.extend(np.linalg.norm(model.predict(centred[test]) - truth[test], axis=1))
    expected = np.mean(errors) / np.hypot(30, 40)
    assert quality.ridge_error(features, landmarks, (30, 40)) == pytest.approx(expected, rel=1e-3)


def test_nmf_finds_the_parts_that_made_the_maps():
    rng = np.random.default_rng(0)
    concepts = rng.random((10, 3, 4, 4)) ** 8
    mixing = np.zeros((3, 9))
    for k in range(3):
        mixing[k, 3 * k : 3 * k + 3] = rng.uniform(1, 2, 3)
    maps = np.einsum("nkhw,kc->nchw", concepts, mixing)
    found = quality.nmf_concepts(maps, concepts=3)
    assert found.shape == (10, 3, 4, 4)
    a, b = (m.transpose(1, 0, 2, 3).reshape(3, -1) for m in (concepts, found))
    correlation = np.corrcoef(a, b)[:3, 3:]
    np.testing.assert_allclose(correlation.max(axis=1), 1, atol=0.02)


def test_markdown_shows_means_and_spreads():
    rows = [
        {"network": "n", "category": c, "seed": s, "layer": "l", "method": "m", "nodes": 4.0,
         "tracking": 0.5 + 0.1 * (c == "a") + 0.02 * s}
        for c in "ab" for s in (0, 1)
    ]  # fmt: skip
    lines = quality.markdown(rows).splitlines()
    assert lines[0] == "| network | layer | method | nodes | tracking |"
    # categories 0.61 and 0.51; seeds 0.55 and 0.57
    assert lines[2] == "| n | l | m | 4 | 0.560 ± 0.071 (0.014) |"


def test_unknown_categories_are_named(tmp_path):
    (tmp_path / "x1").mkdir()
    (tmp_path / "x1" / "parts.json").write_text('{"category": "dog"}')
    assert list(quality._categories(tmp_path, ["dog"])) == [(tmp_path / "x1", "dog")]
    assert list(quality._categories(tmp_path, ["x1"])) == [(tmp_path / "x1", "dog")]
    with pytest.raises(SystemExit, match=r"no category cow.*there are dog"):
        list(quality._categories(tmp_path, ["cow"]))
