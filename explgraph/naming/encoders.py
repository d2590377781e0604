"""Encoders that put images and words into one space: what naming asks of them, and CLIP's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from explgraph.errors import ExplgraphError

__all__ = ["Encoder", "OpenClip"]


@runtime_checkable
class Encoder(Protocol):
    """What puts images and words into one space of d dimensions, where a word is near its images.

    Any object with these two methods will do. Rows need not be of unit length.
    """

    def encode_images(self, images: Sequence[Image.Image]) -> NDArray[Any]:
        """Give (n, d) numbers of n RGB images, all squares of one size."""

    def encode_texts(self, texts: Sequence[str]) -> NDArray[Any]:
        """Give (m, d) numbers of m words or phrases."""


class OpenClip:
    """A CLIP model, as ``open_clip`` makes it, as an `Encoder`.

    Nothing is loaded or downloaded here: the model is yours.

    Parameters
    ----------
    model : torch.nn.Module
        With ``encode_image`` and ``encode_text``: the first thing that
        ``open_clip.create_model_from_pretrained`` returns. Put into evaluation mode.
    preprocess : callable
        A PIL image to the model's (3, H, W) tensor: the second thing.
    tokenizer : callable
        A list of texts to the model's tokens: ``open_clip.get_tokenizer(name)``.
    prompt : str
        What a word is put into, at ``{}``.

    Raises
    ------
    ExplgraphError
        If the model has no such methods, or the prompt has no ``{}``.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        preprocess: Callable[[Image.Image], Any],
        tokenizer: Callable[[list[str]], Any],
        *,
        prompt: str = "a photo of a {}",
    ) -> None:
        for method in ("encode_image", "encode_text"):
            if not callable(getattr(model, method, None)):
                raise ExplgraphError(
                    f"model is {type(model).__name__} without {method}(); expected a CLIP model, "
                    "as open_clip.create_model_from_pretrained gives it (pip install "
                    "'explgraph[openclip]')"
                )
        if "{}" not in prompt:
            raise ExplgraphError(
                f"prompt is {prompt!r}; expected {{}} where the word goes: 'a photo of a {{}}'"
            )
        self._model = model.eval()
        self._preprocess = preprocess
        self._tokenizer = tokenizer
        self._prompt = prompt

    def encode_images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Give (n, d) numbers of n images."""
        batch = torch.stack([torch.as_tensor(self._preprocess(image)) for image in images])
        return self._run("encode_image", batch)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Give (m, d) numbers of m words, each in the prompt."""
        tokens = self._tokenizer([self._prompt.replace("{}", text) for text in texts])
        return self._run("encode_text", torch.as_tensor(tokens))

    @torch.no_grad()
    def _run(self, method: str, batch: torch.Tensor) -> NDArray[np.float32]:
        """Encode a batch where the model is, in its precision."""
        weight = next(iter(self._model.parameters()), None)
        if weight is not None:
            batch = batch.to(weight.device, weight.dtype if batch.is_floating_point() else None)
        encoded: NDArray[np.float32] = getattr(self._model, method)(batch).float().cpu().numpy()
        return encoded
