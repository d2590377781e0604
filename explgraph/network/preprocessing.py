"""How a model's photographs are made ready: what it says of itself, or what can be found out.

Said by ``model.preprocessing``, a mapping that anybody may set and that
`explgraph.network.models.load_model` sets for torchvision; by timm's networks, which carry their
``pretrained_cfg`` however they were made. A model that says nothing gets ImageNet's mean and
spread, as most networks were trained with, and the size that it runs on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from explgraph.brief import counted
from explgraph.errors import ExplgraphError, warn
from explgraph.images.batches import AnyImages
from explgraph.images.channels import channel_count, checked_channels
from explgraph.images.crops import INTERPOLATIONS
from explgraph.images.normalisation import colours_apart, values_doubt, white_of
from explgraph.images.ready import IMAGENET_MEAN, IMAGENET_STD, READY, Ready, checked_size
from explgraph.images.taken import described
from explgraph.network.class_names import attribute
from explgraph.network.hooks import called, check_model, model_device, model_dtype, undisturbed
from explgraph.network.wrappers import bare, modules_by_name
from explgraph.progress import Shown, say

__all__ = [
    "first_takes",
    "image_size",
    "of_transforms",
    "preprocessing",
    "ready_for",
    "told",
    "warn_if_unlike",
]

# px a side that networks are trained with: ImageNet's, then larger ones, then those of small images
_SIDES = (224, 256, 299, 384, 448, 512, 160, 128, 112, 96, 64, 48, 32, 28)
# times the side, up or down: chosen, not measured; timm tests its networks at up to 1.5 times the
# side that they were trained with (test_input_size), so that this is far beyond
_FAR = 2.0
_FITS = {"center": "crop", "squash": "stretch", "border": "pad"}  # timm's words for `ImageFolder`'s


def preprocessing(model: nn.Module) -> dict[str, Any]:
    """Say how a model's images were made ready for its training, as arguments of `ImageFolder`.

    Parameters
    ----------
    model : torch.nn.Module
        ``model.preprocessing``, a mapping of these arguments, is taken first; then timm's
        ``pretrained_cfg`` or ``default_cfg``. The model within a wrapper is asked, too.

    Returns
    -------
    dict
        ``size``, ``mean``, ``std``, ``fit``, ``crop``, ``interpolation``, as far as the model says
        them; empty if it says nothing.

    Raises
    ------
    ExplgraphError
        If it is no module, or ``model.preprocessing`` has a name or a value that `ImageFolder`
        doesn't take.

    Examples
    --------
    >>> from explgraph import creatures
    >>> preprocessing(creatures.network())["size"]
    (112, 112)
    """
    if not isinstance(model, nn.Module):
        raise ExplgraphError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    inner = bare(model)
    for own in (attribute(model, "preprocessing"), attribute(inner, "preprocessing")):
        if not isinstance(own, Mapping) or not own:
            continue
        if unknown := [name for name in own if name not in READY]:
            raise ExplgraphError(
                f"model.preprocessing has {unknown[0]!r}; expected arguments of ImageFolder: "
                f"{', '.join(READY)}"
            )
        return _checked(dict(own))
    for name in ("pretrained_cfg", "default_cfg"):
        known = _of_timm(attribute(inner, name))
        if known:
            return known
    return {}


def _checked(known: dict[str, Any]) -> dict[str, Any]:
    """Refuse what `ImageFolder` would refuse, and fill in what is implied."""
    mean = known.get("mean")
    if "channels" not in known and isinstance(mean, Sequence) and len(mean) != 3:
        known["channels"] = len(mean)
    if known.get("crop", 1) != 1:
        known.setdefault("fit", "crop")
    try:
        count = channel_count(checked_channels(known.get("channels")))
        unsaid: dict[str, Any] = {"size": 1, "mean": (0.0,) * count, "std": (1.0,) * count}
        Ready.checked(**unsaid | known)
    except ExplgraphError as err:
        raise ExplgraphError(f"model.preprocessing: {err}") from err
    return known


def _of_timm(config: Any) -> dict[str, Any]:
    """Read what timm says of how a network was trained."""
    values = config if isinstance(config, Mapping) else getattr(config, "__dict__", {})
    numbers: tuple[Any, ...] = tuple(values.get(k) for k in ("input_size", "mean", "std"))
    shape, mean, std = numbers
    if not (_are(shape, int) and len(shape) == 3 and _are(mean, float) and _are(std, float)):
        return {}
    found: dict[str, Any] = {
        "size": (int(shape[1]), int(shape[2])),
        "mean": tuple(map(float, mean)),
        "std": tuple(map(float, std)),
    }
    if len(mean) == shape[0] != 3:
        found["channels"] = len(mean)
    share = values.get("crop_pct") or 1.0
    fit = _FITS.get(str(values.get("crop_mode") or "center"), "crop")
    with suppress(ExplgraphError, TypeError):  # else somebody else's, who says other things by it
        return _checked(found | _cut(fit, share, values.get("interpolation")))
    return {}


def of_transforms(transforms: Any) -> dict[str, Any]:
    """Read torchvision's ``weights.transforms()`` of classifiers and segmenters; others say less.

    Returns
    -------
    dict
        As `preprocessing`; empty for what makes no single images of a size.
    """
    if type(transforms).__name__ not in ("ImageClassification", "SemanticSegmentation"):
        return {}
    mean, std = attribute(transforms, "mean"), attribute(transforms, "std")
    resized, cut = attribute(transforms, "resize_size"), attribute(transforms, "crop_size")
    side = cut or resized
    if not (_are(side, int) and _are(mean, float) and _are(std, float)):
        return {}
    found = {
        "size": (int(side[0]), int(side[-1])),
        "mean": tuple(map(float, mean)),
        "std": tuple(map(float, std)),
    }
    share = min(1.0, side[0] / resized[0]) if cut and _are(resized, int) else 1.0
    fit = "crop" if cut else "stretch"
    named = attribute(attribute(transforms, "interpolation"), "value")
    return found | _cut(fit, share, named)


def _cut(fit: str, share: float, interpolation: Any) -> dict[str, Any]:
    """Give how the image is cut out of a photograph, without what `ImageFolder` does anyway."""
    found: dict[str, Any] = {"fit": fit}
    if fit == "crop" and 0 < share < 1:
        found["crop"] = round(float(share), 4)
    # "random" and others of training aren't for looking at an image
    if (
        isinstance(interpolation, str)
        and interpolation in INTERPOLATIONS
        and interpolation != "bilinear"
    ):
        found["interpolation"] = interpolation
    return found


def _are(values: Any, kind: type) -> bool:
    """Whether these are some numbers."""
    kinds = (int,) if kind is int else (int, float)
    return (
        isinstance(values, Sequence)
        and len(values) > 0
        and all(isinstance(v, kinds) and not isinstance(v, bool) for v in values)
    )


def first_takes(model: nn.Module) -> int | None:
    """Say how many channels the network's first convolution takes, if it has one."""
    modules = modules_by_name(model).values()
    return next((module.in_channels for module in modules if isinstance(module, nn.Conv2d)), None)


def image_size(model: nn.Module, channels: int | None = None) -> tuple[int, int]:
    """Find a size that a model runs on, the usual ones first.

    Parameters
    ----------
    model : torch.nn.Module
    channels : int, optional
        Of the images; by default 3, or as many as the network's first convolution takes.

    Raises
    ------
    ExplgraphError
        If it runs on none of them, or takes images of other channels.
    """
    check_model(model)
    first = first_takes(model)
    size, failed = _runs_on(model, channels or 3)
    if size is None and first is not None and first != (channels or 3):
        other, _ = _runs_on(model, first)
        if other is not None and channels is not None:
            raise ExplgraphError(
                f"the model takes images of {counted(first, 'channel')}, and these have "
                f"{channels}; give channels={first} (--channels {first}), with the mean and std "
                "of its training"
            )
        size = other
    if size is not None:
        return size
    raise ExplgraphError(
        f"the model runs on none of the usual sizes of images ({failed}); give "
        "explgraph.ImageFolder(path, size=..., mean=..., std=...), or tensors"
    )


def _runs_on(model: nn.Module, channels: int) -> tuple[tuple[int, int] | None, str]:
    """Give the first of the usual sizes that a model runs on, or what it says of the first."""
    device, dtype = model_device(model), model_dtype(model)
    failed = ""
    with undisturbed(model), torch.inference_mode():
        for side in _SIDES:
            try:
                called(model, torch.zeros(1, channels, side, side, device=device, dtype=dtype))
            except Exception as err:
                failed = failed or " ".join(str(err).split())[:200]
            else:
                return (side, side), ""
    return None, failed


def ready_for(model: nn.Module, progress: Shown = None) -> dict[str, Any]:
    """Give the arguments of `ImageFolder` for a model's photographs, and say which in a line.

    Raises
    ------
    ExplgraphError
        As `image_size`, which is asked where the model doesn't say its size.

    Warns
    -----
    ExplgraphWarning
        If the model doesn't say its mean and spread, so that ImageNet's are taken.
    """
    known = preprocessing(model)
    channels = channel_count(known.get("channels"))
    if channels != 3 and not {"mean", "std"} <= known.keys():
        raise ExplgraphError(
            f"model.preprocessing lacks mean or std; they have {channels} numbers each, and none "
            f"are usual for images of {channels} channel{'s' * (channels != 1)}"
        )
    ready = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, "fit": "stretch", **known}
    if "size" not in ready:
        ready["size"] = image_size(model, channels)
    if {"mean", "std"} <= known.keys():
        say(f"images made ready as the model says: {told(ready)}", progress)
    else:
        warn(
            f"the model doesn't say how its images are made ready; taken is what is usual: "
            f"{told(ready)}. If it was trained otherwise, give explgraph.ImageFolder(path, ...) or "
            "set model.preprocessing = {'size': ..., 'mean': ..., 'std': ...}"
        )
    return ready


def told(ready: Mapping[str, Any]) -> str:
    """Say in a line how photographs are made ready, from arguments of `ImageFolder`."""
    fits = {"stretch": "stretched", "crop": "centre crop", "pad": "whole between margins"}
    fit = fits.get(ready["fit"], "")
    share = f" {ready['crop']:g}" if ready.get("crop", 1) != 1 else ""
    mean, std = (",".join(f"{v:.4g}" for v in ready[name]) for name in ("mean", "std"))
    height, width = checked_size(ready["size"])
    how = ready.get("interpolation", "bilinear")
    return f"{height} x {width} px, {fit}{share}, {how}, mean {mean}, std {std}"


def warn_if_unlike(model: nn.Module, images: AnyImages, batch: Tensor) -> None:
    """Warn if images aren't as the model was trained: their size, mean and spread.

    Parameters
    ----------
    model : torch.nn.Module
        What it says of itself is believed; of a model that says nothing, only values that no
        network's images usually have are doubted (`explgraph.images.normalisation`).
    images : ImageFolder, tensor, Dataset, ...
        Of photographs that are made ready here, mean and spread are known and needn't be measured.
    batch : (n, C, H, W) float
        The first of them.
    """
    known = preprocessing(model)
    here = described(images)
    if here:
        if colours_apart(here, known):
            mean, std = (", ".join(f"{v:.3g}" for v in known[name]) for name in ("mean", "std"))
            warn(
                "the images are normalised otherwise than the model's were: by its own word "
                f"mean=({mean}), std=({std}); explgraph.preprocessing(model) gives ImageFolder's "
                "arguments"
            )
    else:
        doubt = values_doubt(batch, known)
        if doubt is not None:
            channels, white = batch.shape[1], white_of(float(batch.max()))
            warn(
                f"the images don't seem to be normalised: {doubt}; give colours 0 to 1 less the "
                "model's mean, over its spread, as ImageFolder makes them, or the folder's path. "
                "If the network takes them so, say it: model.preprocessing = "
                f"{{'mean': (0,) * {channels}, 'std': (1 / {white},) * {channels}}}"
            )
    if "size" in known:
        sides = checked_size(known["size"], "model.preprocessing: size")
        ratio = math.sqrt(batch.shape[2] * batch.shape[3] / math.prod(sides))
        if not 1 / _FAR <= ratio <= _FAR:
            warn(
                f"the images are {batch.shape[2]} x {batch.shape[3]} px, the model was trained "
                f"with {sides[0]} x {sides[1]}; at a size so different filters find other things: "
                f"resize them to between half and twice that (ImageFolder's size)"
            )
