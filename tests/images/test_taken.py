"""What is taken as images, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import TensorDataset

from explgraph.errors import ExplgraphError, ExplgraphWarning
from explgraph.images.batches import batches
from explgraph.images.folder import ImageFolder
from explgraph.images.single import single_image
from explgraph.images.taken import Photographs, taken

READY: dict[str, Any] = {
    "size": [24, 32],
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.25, 0.3],
    "fit": "crop",
    "crop": 0.75,
    "interpolation": "bicubic",
}


def colours(n: int, height: int = 40, width: int = 60) -> NDArray[np.uint8]:
    rng = np.random.default_rng(3)
    return rng.integers(0, 256, (n, height, width, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for k, picture in enumerate(colours(3)):
        Image.fromarray(picture).save(tmp_path / f"{k}.png")
    return tmp_path


def tensors(images: Any) -> torch.Tensor:
    return torch.cat([batch for _, batch in batches(taken(images, READY), 2)])


def test_all_that_holds_photographs_gives_what_the_folder_gives(folder: Path) -> None:
    expected = torch.stack([*ImageFolder(folder, **READY)])
    arrays = colours(3)
    for images in (
        folder,
        str(folder),
        arrays,
        list(arrays),
        [Image.fromarray(one) for one in arrays],
        [Image.open(folder / f"{k}.png") for k in range(3)],
        [folder / f"{k}.png" for k in range(3)],
        tuple(str(folder / f"{k}.png") for k in range(3)),
        ImageFolder(folder, **READY),
    ):
        assert torch.equal(tensors(images), expected), type(images)
    for one in (folder / "0.png", Image.open(folder / "0.png"), arrays[0], arrays[:1]):
        assert torch.equal(tensors(one), expected[:1]), type(one)
        assert torch.equal(single_image(one, READY).batch, expected[:1]), type(one)


def test_a_folder_of_one_image_is_an_image(tmp_path: Path) -> None:
    Image.fromarray(colours(1)[0]).save(tmp_path / "0.png")
    expected = single_image(tmp_path / "0.png", READY)
    of_folder = single_image(tmp_path, READY)
    assert of_folder.name == "0.png"
    assert torch.equal(of_folder.batch, expected.batch)
    at = np.array([[3.0, 4.0]])
    assert of_folder.to_original is not None
    assert expected.to_original is not None
    np.testing.assert_allclose(of_folder.to_original(at), expected.to_original(at))
    Image.fromarray(colours(1)[0]).save(tmp_path / "1.png")
    with pytest.raises(ExplgraphError, match="2 images; give one"):
        single_image(str(tmp_path), READY)


def test_grey_and_transparent_arrays() -> None:
    grey = colours(2)[..., 0]
    coloured = np.repeat(grey[..., None], 3, axis=-1)
    assert torch.equal(tensors(grey), tensors(coloured))
    opaque = np.concatenate([coloured, np.full((*grey.shape, 1), 255, np.uint8)], axis=-1)
    assert torch.equal(tensors(opaque), tensors(coloured))
    assert torch.equal(tensors(grey[0]), tensors(coloured)[:1])
    assert torch.equal(tensors(grey[..., None]), tensors(coloured))
    assert torch.equal(tensors(list(grey[..., None])), tensors(coloured))
    assert torch.equal(tensors(grey[0][..., None]), tensors(coloured)[:1])


def test_what_is_ready_stays_as_it_is() -> None:
    ready = torch.randn(4, 3, 24, 32)
    dataset = TensorDataset(ready)
    assert taken(ready, READY) is ready
    assert taken(dataset, READY) is dataset
    assert torch.equal(tensors(ready.numpy()), ready)
    assert torch.equal(tensors([*ready.numpy()]), ready)
    assert torch.equal(tensors([*ready]), ready)


def test_names_and_places_are_those_of_the_files(folder: Path) -> None:
    files = [folder / f"{k}.png" for k in range(3)]
    images = taken(files, READY)
    assert isinstance(images, Photographs)
    whole = ImageFolder(folder, **READY)
    assert images.names == whole.names == ("0.png", "1.png", "2.png")
    assert images.size == whole.size
    assert images.describe() == whole.describe() == READY
    at = [[3.0, 4.0], [20.5, 10.0]]
    np.testing.assert_allclose(images.to_original(1, at), whole.to_original(1, at))
    assert images.picture(2).tobytes() == whole.picture(2).tobytes()
    nameless = taken(colours(11), READY)
    assert isinstance(nameless, Photographs)
    assert nameless.names[:2] == ("00", "01")
    alike = taken([files[0], files[0]], READY)
    assert isinstance(alike, Photographs)
    assert alike.names == ("0", "1"), "two of one name would be one image"


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("no-such-folder", "images: no-such-folder doesn't exist; pass the folder"),
        (np.zeros((2, 40, 60, 3)), r"float64 .*\(2, 40, 60, 3\).*np.moveaxis\(images, 3, 1\)"),
        (np.zeros((3, 40, 60)), r"images\[None\] is one image"),
        (np.zeros((2, 3, 40, 60), np.uint8), r"np.moveaxis\(images, 1, 3\)"),
        (np.zeros((2, 40, 60, 5), np.uint8), r"normalised as the network takes it$"),
        (np.zeros((2, 40, 60, 3), np.int64), r"int64 .* images.astype\(np.uint8\)"),
        (np.zeros((0, 40, 60, 3), np.uint8), r"uint8 array of the shape \(0, 40, 60, 3\)"),
        (np.array(["a"]), r"images is a <U1 array"),
        ([np.zeros((40, 60, 3))], r"float64 array .*expected \(H, W, 3\) uint8 colours"),
        ([np.zeros((3, 40, 60), np.uint8)], r"uint8 of the shape \(3, 40, 60\) among photographs"),
        ([Image.new("RGB", (4, 4)), 3], "holds int among photographs"),
        (["no-such-file.png"], "'no-such-file.png' doesn't exist; a list of images holds files"),
        (["."], "'.' is a folder; a list of images holds files"),
    ],
)
def test_what_is_no_image_is_told_what_to_write(images: Any, message: str) -> None:
    with pytest.raises(ExplgraphError, match=message):
        taken(images, READY)


def test_pil_images_of_a_dataset_are_told_how_to_be_given() -> None:
    dataset = [(Image.new("RGB", (8, 8)), 1)]
    with pytest.raises(ExplgraphError, match=r"\[image for image, \*_ in dataset\]"):
        [*batches(taken(dataset, READY), 2)]


def test_photographs_need_to_know_how_they_are_made_ready(folder: Path) -> None:
    for images in (folder, colours(2)):
        with pytest.raises(ExplgraphError, match="doesn't say how its images were normalised"):
            taken(images, {})


def test_other_normalisation_than_the_graphs_is_told(folder: Path) -> None:
    usual = {k: v for k, v in READY.items() if k not in ("mean", "std")}
    with pytest.warns(ExplgraphWarning, match=r"\(0.485, 0.456, 0.406\).*\(0.5, 0.4, 0.3\)"):
        taken(ImageFolder(folder, **usual), READY)
    with pytest.warns(ExplgraphWarning, match="colours from 0 to 1"):
        taken(torch.rand(2, 3, 24, 32), READY)
    taken(torch.rand(2, 3, 24, 32), {})  # nothing is known to compare with
