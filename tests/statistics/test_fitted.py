"""What was fitted, as arrays and back; every array that can't be is named."""

import numpy as np
import pytest
import torch
from posed import GRIDS, a_reader, maps_at, tensor

from explgraph.errors import ExplgraphError
from explgraph.network.geometry import Layer
from explgraph.statistics.fitted import Fitted, FittedLayer

C, K = 12, 3
LAYERS = tuple(
    Layer(name, index, C, 20, 20, (8.0, 8.0), (4.0, 4.0), (40.0, 40.0))
    for name, index in (("low", 3), ("top", 6))
)


def fitted_layer(rng, q):
    share = rng.uniform(0, 0.3, (C, K))
    share[0] = 0
    return FittedLayer(
        tensor(rng.uniform(0, 2, C)),
        tensor(rng.uniform(0, 160, (C, K, 2))),
        tensor(rng.standard_normal((C, K, 2, q))),
        tensor(rng.uniform(4, 20, (C, K))),
        tensor(share),
        tensor(1 - share.sum(1)),
        tensor(np.sort(rng.uniform(0, 1, 5))[::-1].copy()),
    )


def whole(seed=0):
    """A reader of poses with two numbers, and two layers."""
    rng = np.random.default_rng(seed)
    reader = a_reader(seed, exemplars=rng.standard_normal((4, 2)), checks=[1, 4, 13])
    return Fitted(reader, {layer.index: fitted_layer(rng, 2) for layer in LAYERS})


def leaves(value):
    """All tensors of nested tuples."""
    if isinstance(value, torch.Tensor):
        return [value]
    items = value.values() if isinstance(value, dict) else value
    return [leaf for item in items for leaf in leaves(item)]


ARRAYS = whole().pack()
NAMES = sorted(ARRAYS)
INDICES = [name for name in NAMES if ARRAYS[name].dtype == np.int64]
SIZED = ("guide_layer", "exemplars", "checks", "decoys")  # others must have as many rows


def test_what_is_packed_comes_back_bit_for_bit():
    fitted = whole()
    back = Fitted.unpack(fitted.pack(), LAYERS)
    one, other = leaves(fitted), leaves(back)
    assert len(one) == len(other) == len(NAMES)
    for a, b in zip(one, other, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert torch.equal(a, b)
    assert list(back.layers) == [3, 6]
    assert len(back.reader.stages) == 3
    again = back.pack()
    assert again.keys() == ARRAYS.keys()
    for name in NAMES:
        assert again[name].tobytes() == ARRAYS[name].tobytes()


def test_names_are_those_of_the_file_format():
    assert all(name.startswith(("layer/3/", "layer/6/", "pose/")) for name in NAMES)
    for name in ("layer/3/sigma", "layer/6/decoys", "pose/guide_filter", "pose/exemplars",
                 "pose/2/loading", "pose/0/window"):  # fmt: skip
        assert name in ARRAYS


def test_what_comes_back_is_a_copy():
    arrays = {name: values.copy() for name, values in ARRAYS.items()}
    back = Fitted.unpack(arrays, LAYERS)
    for leaf in leaves(back):
        leaf.zero_()
    for name in NAMES:
        assert np.array_equal(arrays[name], ARRAYS[name])


def test_what_comes_back_reads_the_same_poses():
    fitted = whole()
    poses = tensor(np.random.default_rng(1).standard_normal((3, 2)))
    maps = maps_at(fitted.reader, fitted.reader.model.places(poses), 0.1)
    back = Fitted.unpack(fitted.pack(), LAYERS)
    read = fitted.poses(maps, GRIDS)
    assert read.shape == (3, 2)
    assert torch.equal(back.poses(maps, GRIDS), read)
    assert torch.equal(back.poses(maps, GRIDS, back.prepared(GRIDS)), read)
    for index in (3, 6):
        assert torch.equal(back.layers[index].expected(read), fitted.layers[index].expected(read))


def refused(name, values):
    """The message about a changed array, or one that is missing."""
    arrays = {n: a.copy() for n, a in ARRAYS.items()}
    if values is None:
        del arrays[name]
    else:
        arrays[name] = values
    with pytest.raises(ExplgraphError) as caught:
        Fitted.unpack(arrays, LAYERS)
    return str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_array_is_named(name):
    message = refused(name, None)
    assert repr(name) in message
    assert "mine it again" in message


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_number_of_dimensions_is_named(name):
    assert repr(name) in refused(name, ARRAYS[name][None])


@pytest.mark.parametrize("name", [n for n in NAMES if n.rsplit("/", 1)[1] not in SIZED])
def test_a_wrong_number_of_rows_is_named(name):
    assert repr(name) in refused(name, ARRAYS[name][:-1])


@pytest.mark.parametrize(
    "name", [n for n in NAMES if n.rsplit("/", 1)[1] in ("guide_layer", "exemplars", "checks")]
)
def test_nothing_at_all_is_named(name):
    """There is always a guide, an exemplar and a check."""
    assert name.rsplit("/", 1)[0] in refused(name, ARRAYS[name][:0])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [np.float64, np.int32, np.complex64, "U3", bool])
def test_a_wrong_type_is_named(name, kind):
    assert repr(name) in refused(name, ARRAYS[name].astype(kind))


@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")
@pytest.mark.parametrize("name", [n for n in NAMES if n not in INDICES])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_named(name, value):
    values = ARRAYS[name].copy()
    values.ravel()[-1] = value
    message = refused(name, values)
    assert repr(name) in message
    assert "finite" in message


@pytest.mark.parametrize("name", INDICES)
@pytest.mark.parametrize("value", [-1, 1000, 2**62, -(2**62)])
def test_an_index_out_of_range_is_named(name, value):
    values = ARRAYS[name].copy()
    values[-1] = value
    assert repr(name) in refused(name, values)


def test_a_guide_of_a_layer_that_was_not_mined_is_named():
    values = ARRAYS["pose/guide_layer"].copy()
    values[-1] = 4  # between those that were
    assert "pose/guide_" in refused("pose/guide_layer", values)


NEVER_BELOW_0 = ("scale", "share", "check_scale", "reach", "window", "decoys")
ALWAYS_ABOVE_0 = ("sigma", "background", "variance", "check_sigma")


@pytest.mark.parametrize("name", [n for n in NAMES if n.rsplit("/", 1)[1] in NEVER_BELOW_0])
def test_a_negative_number_is_named(name):
    values = ARRAYS[name].copy()
    values.ravel()[0] = -1e-3
    assert repr(name) in refused(name, values)


@pytest.mark.parametrize("name", [n for n in NAMES if n.rsplit("/", 1)[1] in ALWAYS_ABOVE_0])
@pytest.mark.parametrize("value", [0, -1])
def test_a_number_that_must_be_above_0_is_named(name, value):
    values = ARRAYS[name].copy()
    values.ravel()[0] = value
    assert repr(name) in refused(name, values)


@pytest.mark.parametrize("look", ["pose/1", "pose/2"])
def test_a_look_without_a_window_is_named(look):
    """All but the first look around expected places: with no width there would be no number."""
    assert f"{look}/window" in refused(f"{look}/window", np.zeros(1, np.float32))


@pytest.mark.parametrize("name", [n for n in NAMES if n not in INDICES])
@pytest.mark.parametrize("value", [1e16, 3e38])
def test_a_number_that_would_overflow_is_named(name, value):
    values = ARRAYS[name].copy()
    values.ravel()[-1] = value
    assert repr(name) in refused(name, values)


@pytest.mark.parametrize("name", [n for n in NAMES if n.rsplit("/", 1)[1] in ALWAYS_ABOVE_0])
def test_a_number_whose_reciprocal_would_overflow_is_named(name):
    assert repr(name) in refused(name, np.full_like(ARRAYS[name], 1e-30))


def test_shares_that_are_no_whole_are_named():
    name = "layer/3/share"
    assert f"{name!r} and the background don't add up to 1" in refused(name, ARRAYS[name] / 2)


def test_guides_and_checks_in_another_order_are_named():
    """Maps are put together layer by layer: another order would read them as one another's."""
    checks = ARRAYS["pose/checks"]
    assert "'pose/checks' is not ascending" in refused("pose/checks", checks[::-1].copy())
    layer = ARRAYS["pose/guide_layer"].copy()
    layer[[0, 1, 2]] = layer.min(), layer.max(), layer.min()
    message = refused("pose/guide_layer", layer)
    assert "has a layer in two places" in message or "guide_filter" in message


def test_poses_of_other_lengths_are_named():
    assert "exemplars" in refused("pose/exemplars", ARRAYS["pose/exemplars"][:, :1])
    assert "loading" in refused("layer/3/loading", ARRAYS["layer/3/loading"][..., :1])


def test_no_poses_at_all_are_named():
    arrays = {name: a for name, a in ARRAYS.items() if name.startswith("layer")}
    arrays |= {f"layer/{i}/loading": ARRAYS[f"layer/{i}/loading"][..., :0] for i in (3, 6)}
    with pytest.raises(ExplgraphError, match="pose/guide_layer"):
        Fitted.unpack(arrays, LAYERS)


def test_layers_that_were_not_mined_are_named():
    other = LAYERS[0]._replace(index=5) if hasattr(LAYERS[0], "_replace") else None
    if other is None:
        from dataclasses import replace

        other = replace(LAYERS[0], index=5)
    with pytest.raises(ExplgraphError, match="layer/5/"):
        Fitted.unpack(ARRAYS, (*LAYERS, other))


def test_arrays_of_anything_else_are_left_alone():
    back = Fitted.unpack(ARRAYS | {"parts/places": np.zeros(3), "layer/3/other": []}, LAYERS)
    assert len(leaves(back)) == len(NAMES)
