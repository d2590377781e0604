"""Recorded activations of a folder of marked photographs, kept between runs if wanted.

A cache holds one ``.safetensors`` file for each folder and network: the maps, and about them, as
JSON, the layers, the images' names, their size and the network's fingerprint. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file

from explgraph.activations.memory import Activations
from explgraph.activations.recording import record
from explgraph.atomic import atomic_write
from explgraph.evaluation.landmarks import Landmarks, read_landmarks
from explgraph.images.folder import ImageFolder
from explgraph.network.forward import fingerprint
from explgraph.network.geometry import Layer


def categories(data: Sequence[Path], wanted: Sequence[str] | None) -> list[tuple[Path, str]]:
    """Folders with a ``parts.json`` in some folders, and their categories' names.

    Parameters
    ----------
    data : sequence of path
        Folders of category folders, or category folders themselves.
    wanted : sequence of str, optional
        Names of folders or categories; all by default.
    """
    files = [f for d in data for f in sorted([*d.glob("parts.json"), *d.glob("*/parts.json")])]
    found = {f.parent: str(json.loads(f.read_text()).get("category", f.parent.name)) for f in files}
    unknown = set(wanted or ()) - {f.name for f in found} - set(found.values())
    if not found or unknown:
        raise SystemExit(
            f"no category {', '.join(sorted(unknown))}; there are {', '.join(found.values())}"
            if found
            else f"no parts.json in {', '.join(map(str, data))}"
        )
    kept = {f: c for f, c in found.items() if not wanted or f.name in wanted or c in wanted}
    return list(kept.items())


def crops(
    folder: Path,
    network: Any,
    layers: Sequence[str],
    *,
    which: str = "first",
    cache: Path | None = None,
) -> tuple[Activations, Landmarks]:
    """Record a folder of crops, clamped as the network clamps them.

    Parameters
    ----------
    folder : path
        Of images and their ``parts.json``.
    network : module
        Such as `benchmarks.mobilenet_v2`.
    layers : sequence of str
    which : {"first", "all"}
        One crop for each source photograph, or all of them.
    cache : path, optional
        Folder for what is recorded; what lies there of the same network, layers and images is used.

    Returns
    -------
    Activations
    Landmarks
        Of the same images, px as the network sees them.
    """
    images = ImageFolder(folder, size=network.SIZE, mean=network.MEAN, std=network.STD)
    landmarks = read_landmarks(folder / "parts.json").to_network(images)
    if which == "first":
        images = images.subset(landmarks.one_per_source())
        landmarks = landmarks.align(images.names)
    model = network.network()
    file = None
    if cache is not None:
        what = json.dumps([fingerprint(model), str(folder.resolve()), *images.names, *layers])
        file = cache / f"{folder.name}-{hashlib.sha256(what.encode()).hexdigest()[:16]}.safetensors"
        if file.exists():
            return read(file), landmarks
    activations = record(model, images, list(layers))
    for maps in activations.maps:
        maps.clamp_(max=network.CEILING)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        write(activations, file)
    return activations, landmarks


def write(activations: Activations, file: Path) -> None:
    """Write activations as safetensors."""
    about = {
        "layers": [layer.as_dict() for layer in activations.layers],
        "names": activations.names,
        "image_size": activations.image_size,
        "model_fingerprint": activations.model_fingerprint,
    }
    maps = {str(i): maps.contiguous() for i, maps in enumerate(activations.maps)}
    with atomic_write(file) as path:
        save_file(maps, path, {"activations": json.dumps(about)})


def read(file: Path) -> Activations:
    """Read what `write` wrote."""
    with safe_open(file, framework="pt") as stored:
        about = json.loads(stored.metadata()["activations"])
        maps = [stored.get_tensor(str(i)) for i in range(len(about["layers"]))]
    return Activations(
        tuple(Layer.from_dict(layer) for layer in about["layers"]),
        tuple(about["names"]),
        tuple(about["image_size"]),
        maps,
        about["model_fingerprint"],
    )
