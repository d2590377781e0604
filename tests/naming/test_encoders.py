"""CLIP models as encoders: a small one, built here, that has the methods of open_clip's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from explgraph.errors import ExplgraphError
from explgraph.naming.encoders import Encoder, OpenClip


class Small(torch.nn.Module):
    """A colour's mean for images, counts of letters for texts."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(2.0, dtype=dtype))
        self.dropout = torch.nn.Dropout(0.9)

    def encode_image(self, batch):
        assert batch.dtype == self.scale.dtype
        return self.dropout(batch.mean((2, 3))) * self.scale

    def encode_text(self, tokens):
        assert tokens.dtype == torch.int64
        return torch.stack([(tokens == ord(c)).sum(1) for c in "abc"], 1) * self.scale


def preprocess(image):
    return torch.from_numpy(np.asarray(image.resize((4, 4))).copy()).permute(2, 0, 1).float()


def tokenizer(texts):
    return torch.tensor([[ord(c) for c in text.ljust(40)] for text in texts])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_images_and_words_are_encoded(dtype):
    model = Small(dtype).train()
    encoder = OpenClip(model, preprocess, tokenizer, prompt="a {} of a {}")
    assert isinstance(encoder, Encoder)
    assert not model.training
    images = [Image.new("RGB", (9, 9), colour) for colour in ((8, 0, 0), (0, 16, 32))]
    np.testing.assert_array_equal(encoder.encode_images(images), [[16, 0, 0], [0, 32, 64]])
    # "a cab of a cab", "a b of a b"
    np.testing.assert_array_equal(encoder.encode_texts(["cab", "b"]), [[8, 4, 4], [4, 4, 0]])
    assert encoder.encode_images(images).dtype == np.float32


def test_what_is_no_clip_model_is_refused():
    with pytest.raises(ExplgraphError, match=r"model is Identity without encode_image\(\)"):
        OpenClip(torch.nn.Identity(), preprocess, tokenizer)
    with pytest.raises(ExplgraphError, match=r"prompt is 'a photo'; expected \{\}"):
        OpenClip(Small(), preprocess, tokenizer, prompt="a photo")
