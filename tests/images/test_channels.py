"""Images of any number of channels: what files hold, what the network gets, what pictures show."""

from __future__ import annotations

import contextlib
import io
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from explgraph import ImageFolder
from explgraph.errors import ExplgraphError, ExplgraphWarning
from explgraph.images import arrays
from explgraph.images.channels import undone
from explgraph.images.ready import made_ready

MOST = {"bool": 1, "uint8": 255, "int8": 127, "uint16": 65535, "int16": 32767}


def plain(count: int, **options: Any) -> dict[str, Any]:
    """Arguments by which values stay as they are."""
    return {"mean": [0.0] * count, "std": [1.0] * count, **options}


def ramp(height: int, width: int, count: int, kind: str = "uint16") -> np.ndarray:
    """An array that tells all its places and channels apart: (H, W, C)."""
    numbers = np.arange(height * width * count).reshape(height, width, count)
    return (numbers * (60000 // numbers.size)).astype(kind)


def network_gets(folder: Path, size: tuple[int, int], **options: Any) -> np.ndarray:
    """The only image of a folder, as the network gets it: (H, W, C)."""
    (image,) = ImageFolder(folder, size=size, **options)
    return image.permute(1, 2, 0).numpy()


def refused(folder: Path, message: str, **options: Any) -> None:
    with pytest.raises(ExplgraphError, match=message):
        ImageFolder(folder, size=8, **options)


# ------------------------------------------------------------------------------- arrays


@given(
    kind=st.sampled_from([*MOST, "float16", "float32", ">f4", "float64", ">u2"]),
    count=st.sampled_from([1, 2, 4, 6]),
    layout=st.sampled_from(["HWC", "CHW"]),
    stored=st.sampled_from([".npy", ".npz", "compressed"]),
    seed=st.integers(0, 99),
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_arrays_are_what_they_say(
    tmp_path: Path, kind: str, count: int, layout: str, stored: str, seed: int
) -> None:
    """Against the formula in float64, at the size of the array."""
    draws = np.random.default_rng(seed)
    dtype = np.dtype(kind)
    most = MOST.get(dtype.newbyteorder("=").name, 1)
    low = 0 if dtype.kind in "ub" else -most
    values = (draws.random((9, 11, count)) * (most - low) + low).astype(dtype)
    mean, std = draws.random(count), draws.random(count) + 0.1
    saved = values if layout == "HWC" else np.moveaxis(values, -1, 0)
    for old in tmp_path.iterdir():
        old.unlink()
    if stored == ".npy":
        np.save(tmp_path / "a.npy", saved)
    else:
        write = np.savez if stored == ".npz" else np.savez_compressed
        write(tmp_path / "a.npz", saved)
    found = network_gets(tmp_path, (9, 11), channels=count, mean=mean, std=std)
    truth = (values.astype(np.float64) / most - mean) / std
    np.testing.assert_allclose(found, truth, rtol=2e-6, atol=2e-6)


def test_two_axes_are_one_channel(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ramp(5, 7, 1)[..., 0])
    found = network_gets(tmp_path, (5, 7), channels=1, mean=[0], std=[1])
    np.testing.assert_allclose(found, ramp(5, 7, 1) / 65535, atol=1e-7)


def test_where_channels_are_is_told_by_their_number_or_by_the_user(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ramp(4, 9, 4))
    refused(tmp_path, r"shape \(4, 9, 4\), which doesn't tell.*axes='HWC'", channels=4, **plain(4))
    for axes, shape in (("HWC", (4, 9)), ("CHW", (9, 4))):
        found = network_gets(tmp_path, shape, channels=4, axes=axes, **plain(4))
        truth = ramp(4, 9, 4) / 65535
        truth = truth if axes == "HWC" else np.moveaxis(truth, 0, -1)
        np.testing.assert_allclose(found, truth, atol=1e-7)
    refused(tmp_path, "axes must be 'HWC' or 'CHW'", channels=4, axes="NCHW", **plain(4))


def test_bands_are_taken_in_their_order(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.moveaxis(ramp(9, 8, 6), -1, 0))
    found = network_gets(tmp_path, (9, 8), channels=[5, 0, 0, 3], **plain(4))
    np.testing.assert_allclose(found, ramp(9, 8, 6)[..., [5, 0, 0, 3]] / 65535, atol=1e-7)
    refused(tmp_path, "a.npy .it has 6 channels, so no 6 .counted from 0", channels=[6], **plain(1))


def test_arrays_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", image=ramp(8, 8, 2), label=np.arange(3))
    found = network_gets(tmp_path, (8, 8), channels=2, **plain(2))
    np.testing.assert_allclose(found, ramp(8, 8, 2) / 65535, atol=1e-7)
    np.savez(tmp_path / "a.npz", x=ramp(8, 8, 2), y=ramp(8, 8, 2))
    refused(tmp_path, "it holds x, y; expected one array, or one that is called 'image'",
            channels=2, **plain(2))  # fmt: skip


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    mark = tmp_path / "unpickled"
    folder = tmp_path / "images"
    folder.mkdir()
    array = np.empty((8, 8), object)
    array[:] = Bomb(mark)
    np.save(folder / "a.npy", array, allow_pickle=True)
    refused(folder, "it holds Python objects, expected an array of numbers", channels=1, **plain(1))
    (folder / "a.npy").write_bytes(pickle.dumps(Bomb(mark)))
    refused(folder, "a.npy .*magic", channels=1, **plain(1))
    assert not mark.exists()


def header(shape: tuple[int, ...], kind: str = "<f4") -> bytes:
    held = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        held, {"descr": kind, "fortran_order": False, "shape": shape}
    )
    return held.getvalue()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (header((1 << 30, 1 << 30)), "holds .* pixels, or as many samples, and .* are allowed"),
        (header((100, 100)) + b"1234", "it is cut off"),
        (header((4, 4, 4, 4)), r"shape \(4, 4, 4, 4\); expected one image"),
        (header((0, 4)), r"shape \(0, 4\)"),
        (header((4, 4), "<c8") + bytes(128), "it holds complex64, expected an array of numbers"),
        (header((4, 4), "<U2") + bytes(128), "expected an array of numbers"),
        (b"\x93NUMPY\x03\x00" + bytes(10), r"version \(3, 0\)"),
        (b"rubbish", "magic|EOF"),
        (b"", "EOF|magic"),
    ],
)
def test_headers_are_checked_before_memory_is_taken(
    tmp_path: Path, content: bytes, told: str
) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    refused(tmp_path, told, channels=1, **plain(1))
    (tmp_path / "a.npy").unlink()
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("arr_0.npy", content)
    refused(tmp_path, told, channels=1, **plain(1))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (np.arange(64).reshape(8, 8), r"int64 from 0 to 63; expected whole numbers of 8 or 16 bit"),
        (np.full((8, 8), np.nan), "64 of its samples are NaN or infinite"),
        (np.full((8, 8), 1e300), "its samples are too large"),
        (np.zeros((8, 8, 3)), r"shape \(8, 8, 3\), expected 1 channels, first or last"),
    ],
)
def test_samples_that_are_not_taken(tmp_path: Path, values: np.ndarray, told: str) -> None:
    np.save(tmp_path / "a.npy", values)
    refused(tmp_path, told, channels=1, **plain(1))


def test_broken_arrays_can_be_skipped(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ramp(8, 8, 1))
    np.save(tmp_path / "b.npy", ramp(8, 8, 5))
    (tmp_path / "c.npz").write_bytes(b"PK no archive")
    with pytest.warns(
        ExplgraphWarning, match="unreadable image files: b.npy .*, c.npz .*; skipped"
    ):
        folder = ImageFolder(tmp_path, size=8, channels=1, unreadable="skip", **plain(1))
    assert folder.names == ("a.npy",)


def test_whole_numbers_beside_floats_are_told(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ramp(8, 8, 1))
    np.save(tmp_path / "b.npy", ramp(8, 8, 1, "float32"))
    with pytest.warns(ExplgraphWarning, match=r"whole numbers \('a.npy'\).*floats \('b.npy'\)"):
        ImageFolder(tmp_path, size=8, channels=1, **plain(1))


def test_arrays_are_only_looked_for_with_channels(tmp_path: Path) -> None:
    np.save(tmp_path / "features.npy", np.zeros(512))
    refused(tmp_path, "1 files of kinds that can't be read .*arrays are read if you say which")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert ImageFolder(tmp_path, size=8).names == ("a.png",)


# ------------------------------------------------------------------------------- TIFFs


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("stored", ["contig", "separate", "pages", "deflate", "lzw"])
def test_tiffs_of_several_bands(tmp_path: Path, kind: str, count: int, stored: str) -> None:
    tifffile = pytest.importorskip("tifffile")
    values = (ramp(9, 11, count, "float64") / 256).astype(kind)
    options: dict[str, Any] = {"photometric": "minisblack", "metadata": None}
    saved = np.moveaxis(values, -1, 0)
    if stored in ("deflate", "lzw"):
        if stored == "lzw":
            pytest.importorskip("imagecodecs")
        options |= {"compression": {"deflate": "zlib"}.get(stored, stored), "predictor": True}
    if stored in ("contig", "deflate", "lzw"):
        saved, options["planarconfig"] = values, "contig"
    elif stored == "separate":
        options["planarconfig"] = "separate"
    if count == 1 and stored != "pages":
        saved, options["planarconfig"] = values[..., 0], None
    if stored == "pages":
        with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
            for page in saved:
                writer.write(page, contiguous=False, **options)
    else:
        tifffile.imwrite(tmp_path / "a.tif", saved, **options)
    found = network_gets(tmp_path, (9, 11), channels=count, **plain(count))
    truth = values.astype(np.float64) / MOST.get(kind, 1)
    np.testing.assert_allclose(found, truth, rtol=1e-6)
    refused(tmp_path, f"it has {count} channel", channels=count + 1, **plain(count + 1))


def test_colours_of_sixteen_bits_keep_all_of_them(tmp_path: Path) -> None:
    """Pillow gives the upper eight alone."""
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", ramp(9, 11, 3), photometric="rgb")
    found = network_gets(tmp_path, (9, 11), channels=3, **plain(3))
    np.testing.assert_allclose(found, ramp(9, 11, 3) / 65535, atol=1e-7)


def test_smaller_copies_are_no_bands(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    values = ramp(16, 16, 1)[..., 0]
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(values, metadata=None, contiguous=False)
        writer.write(values[::2, ::2], metadata=None, subfiletype=1)
    found = network_gets(tmp_path, (16, 16), channels=1, **plain(1))
    np.testing.assert_allclose(found[..., 0], values / 65535, atol=1e-7)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiffs_are_turned_as_pillow_turns_photographs(tmp_path: Path, orientation: int) -> None:
    tifffile = pytest.importorskip("tifffile")
    extra = [(274, "H", 1, orientation, True)]
    options: dict[str, Any] = {"metadata": None, "extratags": extra, "photometric": "minisblack"}
    tifffile.imwrite(tmp_path / "a.tif", ramp(6, 9, 2, "uint8"), planarconfig="contig", **options)
    exif = Image.Exif()
    exif[274] = orientation
    colours = np.concatenate([ramp(6, 9, 2, "uint8"), ramp(6, 9, 1, "uint8")], 2)
    (tmp_path / "other").mkdir()
    Image.fromarray(colours).save(tmp_path / "other" / "a.png", exif=exif)
    size = (6, 9) if orientation < 5 else (9, 6)
    truth = network_gets(tmp_path / "other", size, **plain(3))[..., :2]
    (tmp_path / "other" / "a.png").unlink()
    np.testing.assert_array_equal(network_gets(tmp_path, size, channels=2, **plain(2)), truth)


def test_tiffs_without_tifffile(tmp_path: Path, monkeypatch: Any) -> None:
    tifffile = pytest.importorskip("tifffile")
    options: dict[str, Any] = {"photometric": "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(tmp_path / "a.tif", ramp(8, 8, 5), **options)
    monkeypatch.setitem(__import__("sys").modules, "tifffile", None)
    refused(tmp_path, "a.tif .not an image, or of bands that Pillow doesn't read: channels=")
    refused(tmp_path, r"tifffile, which does, isn't installed: pip install 'explgraph\[tiff\]'",
            channels=5, **plain(5))  # fmt: skip


def test_packed_tiffs_without_imagecodecs(tmp_path: Path, monkeypatch: Any) -> None:
    tifffile = pytest.importorskip("tifffile")

    def missing(_: Any) -> None:
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    options: dict[str, Any] = {"photometric": "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(tmp_path / "a.tif", ramp(8, 8, 5), **options)
    monkeypatch.setattr(tifffile.TiffPage, "asarray", missing)
    refused(tmp_path, r"requires the 'imagecodecs' package: pip install 'explgraph\[tiff\]'",
            channels=5, **plain(5))  # fmt: skip


def test_broken_tiffs(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    options: dict[str, Any] = {"photometric": "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(tmp_path / "whole.tif", ramp(8, 8, 5), **options)
    whole = (tmp_path / "whole.tif").read_bytes()
    (tmp_path / "whole.tif").unlink()
    for cut in (0, 4, 100, len(whole) - 40):
        (tmp_path / "a.tif").write_bytes(whole[:cut])
        refused(tmp_path, "unreadable image file: a.tif", channels=5, **plain(5))
    (tmp_path / "a.tif").write_bytes(whole)
    refused(tmp_path, "holds 107 pixels, or as many samples, and 100 are allowed", channels=5,
            largest=100, **plain(5))  # fmt: skip


@given(
    suffix=st.sampled_from([".npy", ".npz", ".tif"]),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.floats(0.5, 1.5),
)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_damaged_files_give_an_image_or_an_error(
    tmp_path: Path, suffix: str, changes: list[tuple[float, int]], cut: float
) -> None:
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / f"a{suffix}"
    for old in tmp_path.iterdir():
        old.unlink()
    values = ramp(6, 5, 2)
    if suffix == ".tif":
        tifffile.imwrite(path, values, photometric="minisblack", planarconfig="contig")
    elif suffix == ".npy":
        np.save(path, values)
    else:
        np.savez_compressed(path, values)
    content = bytearray(path.read_bytes())
    for where, value in changes:
        # headers are short, and all that is dangerous is in them
        content[int(where**3 * (len(content) - 1))] = value
    path.write_bytes(content[: int(cut * len(content))])
    with contextlib.suppress(ExplgraphError), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow
        (image,) = ImageFolder(tmp_path, size=8, channels=2, largest=10_000, **plain(2))
        assert image.shape == (2, 8, 8)
        assert image.isfinite().all()


# ------------------------------------------------------------------------------- photographs


def photographs(folder: Path) -> dict[str, Image.Image]:
    """Photographs in colour, grey, with transparency, of 16 bits."""
    draws = np.random.default_rng(0)
    colours = draws.integers(0, 256, (40, 30, 4), dtype=np.uint8)
    made = {
        "cmyk.jpg": Image.new("CMYK", (30, 40), (9, 80, 3, 7)),
        "colour.png": Image.fromarray(colours[..., :3]),
        "deep.png": Image.fromarray(draws.integers(0, 65536, (40, 30), dtype=np.uint16)),
        "grey.png": Image.fromarray(colours[..., 0]),
        "transparent.png": Image.fromarray(colours),
    }
    for name, picture in made.items():
        picture.save(folder / name)
    return made


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("channels", [3, [0, 1, 2]])
def test_three_channels_are_what_photographs_are_otherwise(
    tmp_path: Path, fit: Any, channels: Any
) -> None:
    photographs(tmp_path)
    (tmp_path / "deep.png").unlink()  # whose bits are kept
    options = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.1], "fit": fit}
    names = ["colour.png"] if channels != 3 else None
    usual = ImageFolder(tmp_path, size=(20, 17), names=names, **options)
    others = ImageFolder(tmp_path, size=(20, 17), channels=channels, names=names, **options)
    for i in range(len(usual)):
        assert torch.equal(usual[i], others[i]), usual.names[i]
        assert np.array_equal(usual.picture(i), others.picture(i))


def test_photographs_turn_grey(tmp_path: Path) -> None:
    made = photographs(tmp_path)
    folder = ImageFolder(tmp_path, size=(40, 30), channels=1, mean=[0], std=[1])
    found = dict(zip(folder.names, (image[0].numpy() for image in folder), strict=True))
    red, green, blue = np.asarray(made["colour.png"]).astype(float).transpose(2, 0, 1)
    luma = (0.299 * red + 0.587 * green + 0.114 * blue) / 255  # ITU-R 601
    np.testing.assert_allclose(found["colour.png"], luma, atol=0.51 / 255)
    np.testing.assert_array_equal(found["grey.png"] * 255, np.asarray(made["grey.png"]))
    np.testing.assert_allclose(found["deep.png"], np.asarray(made["deep.png"]) / 65535, atol=1e-7)


def test_channels_of_photographs(tmp_path: Path) -> None:
    made = photographs(tmp_path)
    held = np.asarray(made["transparent.png"]) / 255
    one = {"size": (40, 30), "names": ["transparent.png"]}
    four = ImageFolder(tmp_path, channels=4, **one, **plain(4))[0]
    np.testing.assert_allclose(four.permute(1, 2, 0), held, atol=1e-6)
    alpha = ImageFolder(tmp_path, channels=[3], **one, **plain(1))[0]
    np.testing.assert_allclose(alpha[0], held[..., 3], atol=1e-6)
    with pytest.raises(ExplgraphError, match="it has 3 channels, expected 2; a list, such as"):
        ImageFolder(tmp_path, size=8, names=["colour.png"], channels=2, **plain(2))


# ------------------------------------------------------------------------------- mean and std


def test_what_is_missing_is_told_with_a_line_that_measures_it(tmp_path: Path) -> None:
    draws = np.random.default_rng(3)
    values = draws.normal(5, [1, 2, 3, 4], (3, 12, 10, 4))
    for i, image in enumerate(values):
        np.save(tmp_path / f"{i}.npy", image)
    with pytest.raises(ExplgraphError, match="mean and std must be given, 4 numbers each") as told:
        ImageFolder(tmp_path, channels=4)
    line = re.search(r"mean, std = (.*) measures them", str(told.value))
    assert line is not None
    names = {"explgraph": __import__("explgraph"), "PATH": tmp_path}
    call = line[1].replace("PATH,", "PATH, size=(12, 10),")  # that nothing is averaged away
    mean, std = eval(call, names)
    np.testing.assert_allclose(mean, values.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(std, values.std((0, 1, 2)), rtol=1e-5)
    folder = ImageFolder(tmp_path, size=(12, 10), channels=4, mean=mean, std=std)
    seen = torch.stack(list(folder))
    np.testing.assert_allclose(seen.mean((0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(seen.std((0, 2, 3), correction=0), 1, rtol=1e-4)


def test_margins_are_not_measured(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((4, 40), 7.0))
    folder = ImageFolder(tmp_path, size=20, fit="pad", channels=1, mean=[1], std=[2])
    assert folder.mean_and_std() == ([7.0], [0.0])
    assert sorted(set(folder[0].flatten().tolist())) == [0.0, 3.0], "margins are of the mean"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"channels": 4, "mean": [0] * 4}, r"std must be given, 4 numbers each.*channels=4, mean"),
        ({"channels": [2, 1, 0]}, r"mean and std must be given, 3 numbers.*channels=\[2, 1, 0\]"),
        ({"channels": 1, "mean": [0, 0, 0], "std": [1]}, "mean must be one number, got"),
        ({"channels": 4, "mean": [0, 0, 0], "std": [1] * 4}, "mean must be 4 numbers, one for"),
        ({"channels": 1, "mean": [0], "std": [0]}, "std must be above 0"),
        ({"channels": 1, "mean": [120], "std": [60]}, "mean: .*'a.png' holds, is of colours from"),
        ({"channels": 0}, "channels must be a number of channels"),
        ({"channels": True}, "channels must be a number of channels"),
        ({"channels": []}, "channels must be a number of channels"),
        ({"channels": [-1]}, "channels must be a number of channels"),
        ({"channels": "3"}, "channels must be a number of channels"),
        ({"channels": 1, "shown": [1], **plain(1)}, "shown must be one channel"),
        ({"channels": 4, "shown": [0, 1], **plain(4)}, "shown must be one channel"),
        ({"channels": 1, "window": [1, 0], **plain(1)}, "window must be two numbers"),
        ({"channels": 2, "window": [[0, 1]] * 3, **plain(2)}, "window must be two numbers"),
        ({"window": [0, 1]}, "give channels, too"),
        ({"largest": 0}, "largest must be a whole number above 0"),
    ],
)
def test_wrong_channels(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    refused(tmp_path, told, **options)


# ------------------------------------------------------------------------------- pictures


def test_pictures_show_chosen_channels_within_the_window(tmp_path: Path) -> None:
    draws = np.random.default_rng(1)
    values = draws.normal(-40, 15, (9, 8, 5)).astype(np.float32)
    np.save(tmp_path / "a.npy", values)
    options = {"size": (9, 8), "channels": 5, **plain(5)}
    window = [[-80, 0], [-60, -20], [-90, 10], [-50, -30], [-70, 5]]

    def truth(shown: list[int]) -> np.ndarray:
        low, high = np.array(window, float)[shown].T
        shares = (values[..., shown].astype(float) - low) / (high - low)
        return np.rint(255 * shares.clip(0, 1))

    for shown in ([3, 0, 4], [0, 1, 2], [2]):
        folder = ImageFolder(tmp_path, shown=shown, window=window, **options)
        found = np.asarray(folder.picture(0)).astype(float)
        np.testing.assert_allclose(found, np.broadcast_to(truth(shown), (9, 8, 3)), atol=1)
        again = undone(folder[0].numpy(), folder.describe())
        np.testing.assert_allclose(again.astype(float), found, atol=1)
    measured = ImageFolder(tmp_path, **options).describe()
    percentiles = np.percentile(values.reshape(-1, 5), [1, 99], axis=0).T
    np.testing.assert_allclose(measured["window"], percentiles, rtol=1e-6)
    assert measured["shown"] == [0, 1, 2]
    ones = ImageFolder(tmp_path, **{**options, "window": [-60, -20]}).describe()
    assert ones["window"] == [[-60, -20]] * 5


def test_pictures_of_eight_bits_are_not_stretched(tmp_path: Path) -> None:
    grey = np.linspace(50, 90, 64).reshape(8, 8).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "a.png")
    picture = ImageFolder(tmp_path, size=8, channels=1, mean=[0.5], std=[0.2]).picture(0)
    np.testing.assert_array_equal(picture, np.repeat(grey[..., None], 3, 2))


def test_windows_are_measured_on_the_first_images(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(arrays, "_FILES", 2)
    for i, value in enumerate((1.0, 3.0, 100.0)):
        np.save(tmp_path / f"{i}.npy", np.full((8, 8), value))
    window = ImageFolder(tmp_path, size=8, channels=1, **plain(1)).describe()["window"]
    assert window == [[1.0, 3.0]]


def test_pictures_of_one_value(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((8, 8), 7.0))
    picture = ImageFolder(tmp_path, size=8, channels=1, mean=[7], std=[1]).picture(0)
    assert np.asarray(picture).max() == 0


def test_describe_makes_the_same_of_files_and_of_one_image(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ramp(20, 30, 6))
    options = {"channels": [4, 2], "mean": [0.1, 0.2], "std": [2, 3], "axes": "HWC"}
    first = ImageFolder(tmp_path, size=(9, 7), fit="crop", **options)
    again = ImageFolder(tmp_path, **first.describe())
    cut = ImageFolder.from_cuts(tmp_path, first.cuts(), **first.describe())
    picture, image, to_original = made_ready(tmp_path / "a.npy", "a", **first.describe())
    for other in (again[0], cut[0], image):
        assert torch.equal(first[0], other)
    for other in (again.picture(0), cut.picture(0), picture):
        np.testing.assert_array_equal(first.picture(0), other)
    assert again.describe() == cut.describe() == first.describe()
    corners = np.array([[0.0, 0.0], [7.0, 9.0]])
    np.testing.assert_allclose(to_original(corners), first.to_original(0, corners))
    assert "2 channels" in repr(first)


@given(
    photo=st.tuples(st.integers(3, 40), st.integers(3, 40)),
    size=st.tuples(st.integers(3, 30), st.integers(3, 30)),
    fit=st.sampled_from(["stretch", "crop", "pad"]),
)
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_points_of_arrays_are_where_their_values_come_from(
    tmp_path: Path, photo: tuple[int, int], size: tuple[int, int], fit: Any
) -> None:
    """Values that say where they were."""
    height, width = photo
    down, across = np.mgrid[:height, :width] + 0.5
    np.save(tmp_path / "a.npy", np.stack([across, down], -1))
    options = {"channels": 2, "axes": "HWC", "mean": [-1, -1], "std": [1, 1]}
    folder = ImageFolder(tmp_path, size=size, fit=fit, **options)
    values = folder[0].permute(1, 2, 0).numpy() - 1
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    where = folder.to_original(0, np.stack([columns, rows], -1))
    inside = np.all((where > 0) & (where < [width, height]), -1)
    # what is averaged at the border lies further in
    scale = np.maximum(1, folder.to_original(0, [1, 1]) - folder.to_original(0, [0, 0]))
    inner = inside & np.all((where > scale) & (where < [width, height] - scale), -1)
    assert inner.any() or min(*photo, *size) < 12 or fit == "pad"
    np.testing.assert_allclose(values[inner], where[inner], atol=1e-2 * max(photo))
