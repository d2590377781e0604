"""What the fault campaign tries (`faults`), by family.

A family's ``make(world, place)`` gives ``attempt(rng, tick)``: it does one try in the folder
``place``, calls ``tick`` as a sign of life if it takes long, and returns True if the result is what
it should be, or says what is wrong with it. ``world`` holds whole files of every kind (`prepare`).
"""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
import zipfile
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import networkx
import numpy as np
import torch
from PIL import Image
from safetensors import numpy as safetensors_numpy
from safetensors.torch import save_file
from torch import Tensor, distributed, nn

import explgraph
from explgraph import (
    DecisionTree,
    ExplanatoryGraph,
    ExplgraphError,
    ImageFolder,
    Localizer,
    Parse,
    find_bias,
    mine,
    mine_activations,
    open_parse,
    open_store,
    record,
)
from explgraph.activations.streaming import BLOCK
from explgraph.answers.ablation import Ablation, ablate
from explgraph.answers.judged import Judged
from explgraph.answers.label_files import read_absent, read_attributes, read_expected
from explgraph.answers.located import Located
from explgraph.answers.rationales import Rationales
from explgraph.answers.relations import Bias
from explgraph.evaluation.landmarks import read_landmarks
from explgraph.explaining.attribution import Rests
from explgraph.network.models import load_model

with contextlib.suppress(ImportError):
    import zarr  # noqa: F401  before forking, since it takes long

Attempt = Callable[[random.Random, Callable[[], None]], "bool | str"]

SIZE, N = 32, 2 * BLOCK + 6
LAYERS = ("0", "2")
PARTS = ("left", "right")


# ------------------------------------------------------------------------------- what is damaged


class Small(nn.Sequential):
    """Two convolutions and three classes."""

    def __init__(self, pause: float = 0.0) -> None:
        super().__init__(
            nn.Conv2d(3, 8, 5, 2, 2), nn.ReLU(), nn.Conv2d(8, 6, 3, 2, 1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3),
        )  # fmt: skip
        self.pause = pause
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)

    def forward(self, x: Tensor) -> Tensor:
        """Give scores, after a pause if there are many images."""
        if self.pause and len(x) > 2:  # not those that measure unit centres
            time.sleep(self.pause)
        return super().forward(x)


def network() -> nn.Module:
    """Give the network in evaluation mode (``benchmarks.fault_families:network``)."""
    return Small().eval()


def pictures(n: int = N, seed: int = 1) -> tuple[Tensor, np.ndarray]:
    """Draw blobs that move about over noise, and say where they are: (n, 2) px."""
    generator = torch.Generator().manual_seed(seed)
    centre = 10 + 12 * torch.rand(n, 2, generator=generator)
    at = torch.arange(SIZE) + 0.5
    blob = [(-(at - centre[:, i, None]).square() / 20).exp() for i in (0, 1)]
    colour = torch.tensor([2.0, -1.0, 1.0])[:, None, None]
    noise = 0.3 * torch.randn(n, 3, SIZE, SIZE, generator=generator)
    return colour * (blob[1][:, :, None] * blob[0][:, None])[:, None] + noise, centre.numpy()


def prepare(world: Path) -> None:
    """Write whole files of every kind."""
    world.mkdir()
    model, (images, centre) = network(), pictures()
    aside = np.array([2, 0])
    marks = {"left": centre - aside, "right": centre + aside}
    graph = mine(model, images, LAYERS, seed=0)
    graph.save(world / "a.explgraph")
    graph.prune(top=0.8).save(world / "b.explgraph")
    parse = graph.parse(model, images)
    small = graph.parse(model, images[:12])
    for suffix in ("npz", "csv", "json"):
        small.write(world / f"parse.{suffix}")
    localizer = Localizer(graph).fit(parse, marks)
    localizer.save(world / "parts.localizer")
    localizer.predict(small).write(world / "located.csv")
    localizer.predict(small).write(world / "located.json")
    _rationales().grow.save(world / "modes.tree")
    rng = np.random.default_rng(0)
    attributes = {name: rng.random(N) < 0.5 for name in ("a", "b", "c")}
    bias = find_bias(model, graph, images, attributes, permutations=99)
    bias.save(world / "found.bias")
    bias.judged.write(world / "judged.csv")
    ablate(model, graph, images[:8], list(graph.node_ids[:2])).write(world / "ablation.json")
    graph.write_labels(world / "labels.json")
    names = [f"{i:02}.png" for i in range(N)]
    _write_marks(world, names, marks)
    _write_tables(world, names, attributes)
    save_file(model.state_dict(), world / "weights.safetensors")
    torch.save(model.state_dict(), world / "weights.pt")
    photos = world / "photos"
    photos.mkdir()
    kinds = ("png", "jpg", "bmp", "tif", "webp", "gif")
    for i, image in enumerate(images[:12]):
        pixels = ((image.permute(1, 2, 0).clamp(-2, 2) + 2) * 63).byte().numpy()
        Image.fromarray(pixels).save(photos / f"{i:02}.{kinds[i % len(kinds)]}")
    mine_activations(record(model, images, LAYERS), checkpoint=world / "unfinished")
    if sys.version_info >= (3, 11):
        for dtype in ("float16", "uint8"):
            record(model, images, LAYERS, store=world / dtype, dtype=dtype)
            record(model, images.flip(0), LAYERS, store=world / f"{dtype} other", dtype=dtype)
        graph.parse(model, images, out=world / "parsed")


class _Tree(NamedTuple):
    found: Rationales
    grow: DecisionTree


def _rationales() -> _Tree:
    """Grow a tree of made-up contributions."""
    rng = np.random.default_rng(0)
    way = np.arange(24) % 3
    x = np.concatenate([(way == k)[:, None] * rng.uniform(0.7, 1.3, (24, 2)) for k in (0, 1)], 1)
    x = np.concatenate([x, rng.uniform(0, 0.1, (24, 3))], 1)
    nodes = tuple(f"top/{d}/0" for d in range(x.shape[1]))
    names = tuple(f"{i:02}.png" for i in range(24))
    rests = Rests(np.full(24, 0.5), *np.zeros((3, 24)))
    found = Rationales(nodes, names, 3 * x, 2 * x, 2 * x.sum(1) + 0.5, way < 2, rests)
    return _Tree(found, DecisionTree.grow(found, found.first))


def _write_marks(world: Path, names: list[str], marks: Mapping[str, np.ndarray]) -> None:
    """Write landmarks in the three layouts that are read."""
    content = {
        name: {part: [float(v) for v in places[i]] for part, places in marks.items()}
        for i, name in enumerate(names)
    }
    (world / "marks.json").write_text(json.dumps({"images": content, "parts": [*PARTS]}))
    with (world / "marks.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["name", "part", "x", "y", "visible"])
        for part, places in marks.items():
            rows.writerows([n, part, *p, 1] for n, p in zip(names, places.tolist(), strict=True))
    cub = world / "cub"
    cub.mkdir()
    (cub / "images.txt").write_text("".join(f"{i} {n}\n" for i, n in enumerate(names, 1)))
    (cub / "parts.txt").write_text("1 left\n2 right\n")
    (cub / "part_locs.txt").write_text(
        "".join(
            f"{i} {k} {places[i - 1][0]} {places[i - 1][1]} 1\n"
            for i in range(1, len(names) + 1)
            for k, places in enumerate(marks.values(), 1)
        )
    )


def _write_tables(world: Path, names: list[str], attributes: Mapping[str, np.ndarray]) -> None:
    """Write the tables that the command line takes."""
    lines = {
        "attributes.csv": [["name", *attributes]]
        + [[n, *(int(v[i]) for v in attributes.values())] for i, n in enumerate(names)],
        "expected.csv": [["target", "source", "relation"], ["a", "b", 1], ["b", "c", -1]],
        "absent.csv": [["name", "part"], [names[0], "left"], [names[3], "right"]],
        "boxes.csv": [["name", "x0", "y0", "x1", "y1"]]
        + [[f"{i:02}.{k}", 1, 2, 20 + i, 30] for i, k in enumerate(("png", "jpg", "bmp"))],
    }
    for file, rows in lines.items():
        with (world / file).open("w", newline="") as out:
            csv.writer(out).writerows(rows)


# ------------------------------------------------------------------------------------- damage


def damaged(content: bytes, rng: random.Random, other: bytes = b"") -> bytes:
    """Damage bytes in one of many ways."""
    size = max(1, len(content))
    one, two = sorted((rng.randrange(size), rng.randrange(size)))
    changed = bytearray(content or b"\0")
    how = rng.randrange(12)
    if how < 4:
        changed[one] ^= 1 << rng.randrange(8)
    elif how == 4:
        changed[one] = rng.randrange(256)
    elif how == 5:
        return content[:one]
    elif how == 6:
        changed[one:two] = bytes(two - one)
    elif how == 7:  # exchanged
        length = min(two - one, size - two, 64)
        changed[one : one + length], changed[two : two + length] = (
            changed[two : two + length],
            changed[one : one + length],
        )
    elif how == 8:
        changed[one:one] = rng.randbytes(rng.randrange(1, 40))
    elif how == 9:
        del changed[one : one + rng.randrange(1, 200)]
    elif how == 10 and other:
        return other
    else:
        return rng.choice(_HOSTILE)
    return bytes(changed)


_HOSTILE = (
    b"", b"\0" * 64, b"[" * 100_000, b'{"a":' * 50_000, b"null", b"{}", b"[]", b"NaN", b'"x"',
    b" " * 5_000_000, b"\xff\xfe\x00", b"PK\x03\x04", b"\x93NUMPY\x01\x00v\x00{",
    b"1e999", b"1" * 5000, b'{"format": []}', b"name,part,x,y\n\"", b"a,b\n" * 3, b"PAR1PAR1",
    b"\xff\xff\xff\xff\xff\xff\xff\x7f{}", b"\x08\0\0\0\0\0\0\0{}      ", b"II*\0\xff\xff\xff\xff",
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 7, 2**31, 2**53 + 1, 10**30, 0.5, -0.0, 1e-300, 1e30, 1e308,
    float("nan"), float("inf"), "", "x", "0", "\u0000", "\ud800", "a" * 300, [], {}, [[]], [None],
    [1, 2], [1.0, 2.0], {"a": 1}, ["x", "x"], -1.5, 1e6,
)  # fmt: skip


def forged(content: Any, rng: random.Random) -> Any:
    """Change one to three values anywhere in JSON values."""
    whole = [content]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(whole))
        holder, key = rng.choice(places)
        how = rng.randrange(8)
        if how < 5:
            found = holder[key]
            if isinstance(found, (int, float)) and not isinstance(found, bool) and how < 2:
                holder[key] = rng.choice((-found, found * 2, found + 1, found * 1e6, found - 1))
            else:
                holder[key] = rng.choice(_VALUES)
        elif holder is not whole and how == 5:
            del holder[key]
        elif holder is not whole and how == 6 and isinstance(holder, list):
            holder.append(holder[key])
        else:
            other, where = rng.choice(places)
            one, two = deepcopy(holder[key]), deepcopy(other[where])
            holder[key] = two
            with contextlib.suppress(LookupError):  # what was replaced held it
                other[where] = one
    try:
        json.dumps(whole[0])
    except (ValueError, RecursionError):
        return None
    return whole[0]


def _places(value: Any) -> Any:
    """Go through all places in JSON values."""
    keys = value if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from _places(value[key])


def forged_array(array: np.ndarray, rng: random.Random) -> np.ndarray:
    """Change an array's numbers, shape or type."""
    how = rng.randrange(9)
    changed = np.array(array)
    if how < 5 and changed.size:
        value = rng.choice((np.nan, np.inf, -np.inf, -1, 0, 1e-30, 1e30, 3e38, 1e6, 2**40))
        with np.errstate(all="ignore"):
            at = rng.randrange(changed.size) if how < 4 else slice(None)
            changed.reshape(-1)[at] = np.array(value).astype(changed.dtype)
        return changed
    if how == 5:
        return changed[:-1] if changed.ndim else changed[None]
    if how == 6:
        return changed.astype(rng.choice((np.float64, np.float32, np.int64, np.float16, np.uint8)))
    if how == 7:
        return changed[None]
    return np.ascontiguousarray(changed[::-1])


# --------------------------------------------------------------------------- files with checksums

SEALED = ("a.explgraph", "b.explgraph", "parts.localizer", "modes.tree", "found.bias")


def _open(file: Path, graph: ExplanatoryGraph) -> Any:
    """Open a file with a checksum."""
    if file.suffix == ".explgraph":
        return explgraph.load(file)
    if file.suffix == ".localizer":
        return Localizer.load(file, graph)
    return (DecisionTree if file.suffix == ".tree" else Bias).load(file)


def _bytes(value: Any, place: Path) -> bytes:
    """Give what an object writes of itself: equal objects give equal bytes."""
    value.save(place / "again")
    return (place / "again").read_bytes()


def sealed(world: Path, place: Path) -> Attempt:
    """Bytes of files with checksums: the same object, or an error."""
    graph = explgraph.load(world / "a.explgraph")
    whole = {name: (world / name).read_bytes() for name in SEALED}

    def attempt(rng: random.Random, _: Any) -> bool | str:
        name = rng.choice(SEALED)
        file = place / name
        others = [content for other, content in whole.items() if other != name]
        file.write_bytes(damaged(whole[name], rng, rng.choice(others)))
        found = _bytes(_open(file, graph), place)
        # another whole graph is a graph
        return found in whole.values() or f"{name} was opened as another"

    return attempt


def contents(world: Path, place: Path) -> Attempt:
    """Contents of files whose checksums are right: answers that are numbers, or an error."""
    graph = explgraph.load(world / "a.explgraph")
    model, (images, _) = network(), pictures(4, seed=5)
    parse = graph.parse(model, images)
    found = _rationales().found
    parts = {name: _members(world / name) for name in SEALED}

    def attempt(rng: random.Random, _: Any) -> bool | str:
        name = rng.choice(SEALED)
        members = dict(parts[name])
        manifest, text, arrays = members
        values = dict(safetensors_numpy.load(members[arrays]))
        if rng.random() < 0.5 or not values:
            content = forged(json.loads(members[text]), rng)
            members[text] = json.dumps(content).encode()
        else:
            key = rng.choice(sorted(values))
            how = rng.random()
            if how < 0.1:
                del values[key]
            elif how < 0.2:
                other = rng.choice(sorted(values))
                values[key], values[other] = values[other], values[key]
            else:
                values[key] = forged_array(values[key], rng)
            members[arrays] = safetensors_numpy.save(values)
        told = json.loads(members[manifest])
        told["sha256"] = {k: hashlib.sha256(members[k]).hexdigest() for k in (text, arrays)}
        members[manifest] = json.dumps(told).encode()
        file = place / name
        with zipfile.ZipFile(file, "w") as archive:
            for member, data in members.items():
                archive.writestr(member, data)
        opened = _open(file, graph)
        return _used(opened, model, images, parse, found, place)

    return attempt


def _members(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _used(
    opened: Any, model: nn.Module, images: Tensor, parse: Parse, found: Rationales, place: Path
) -> bool | str:
    """Ask what was opened all that there is to ask: everything must be a number."""
    numbers: list[Any] = []
    if isinstance(opened, ExplanatoryGraph):
        for suffix in ("graphml", "gexf", "json", "dot", "html"):
            opened.write(place / f"out.{suffix}")
        opened.part_graph()
        opened.prune(top=0.5).save(place / "pruned")
        if opened.fitted:
            got = opened.parse(model, images)
            numbers += [got.positions, got.expected, got.scores]
    elif isinstance(opened, Localizer):
        positions, uncertainty = opened.predict(parse)
        numbers += [*positions.values(), *uncertainty.values()]
    elif isinstance(opened, DecisionTree):
        numbers += [opened.predict(found), [e.residual for e in _explained(opened, found)]]
        opened.write(place / "out.html")
        json.dumps(networkx.node_link_data(opened.nx, edges="edges"), allow_nan=False)
    else:
        opened.write(place / "out.json")
        numbers += [opened.node_effects, opened.judged.risk]
    finite = all(np.isfinite(np.asarray(values, dtype=float)).all() for values in numbers)
    return finite or f"{type(opened).__name__}: answers that are no numbers"


def _explained(tree: DecisionTree, found: Rationales) -> list[Any]:
    return tree.explain_all(found) if tree.nodes == found.nodes else []


# ------------------------------------------------------------------------------- tables and others


def _finite(*values: Any) -> bool:
    return all(np.isfinite(np.asarray(v, dtype=float)).all() for v in values)


def _again(kind: Any, file: Path, place: Path, suffix: str) -> bool | str:
    """Read, write, read again: the same numbers."""
    one = kind.read(file)
    one.write(place / f"again{suffix}")
    two = kind.read(place / f"again{suffix}")
    same = all(
        _equal(getattr(one, name), getattr(two, name)) for name in vars(one) if name[0] != "_"
    )
    return same or f"{file.name}: another table when it was written again"


def _equal(one: Any, two: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(_equal(one[k], two[k]) for k in one)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, two, equal_nan=one.dtype.kind == "f")
    return bool(one == two)


def _reads(file: Path, world: Path, place: Path) -> bool | str:
    """Read a file that has no checksum, as far as a user would."""
    name, graph = file.name, explgraph.load(world / "a.explgraph")
    names = [f"{i:02}.png" for i in range(N)]
    if name.startswith("parse"):
        return _again(Parse, file, place, ".npz")
    if name.startswith("located"):
        return _again(Located, file, place, ".csv")
    if name == "judged.csv":
        return _again(Judged, file, place, ".csv")
    if name == "ablation.json":
        found = Ablation.read(file)
        return _finite(*(v for v in found if isinstance(v, np.ndarray) and v.dtype.kind == "f"))
    if name == "labels.json":
        graph.apply_labels(file)
        graph.validate()
        return True
    if name.startswith("marks") or name == "part_locs.txt":
        marks = read_landmarks(file)
        shapes = {places.shape for places in marks.parts.values()}
        return shapes <= {(len(marks.names), 2)} or f"marks of the shapes {shapes}"
    if name == "attributes.csv":
        return all(v.shape == (N,) for v in read_attributes(file, names).values())
    if name == "expected.csv":
        return all(v in (-1, 1) for v in read_expected(file).values())
    if name == "absent.csv":
        return all(v.shape == (N,) for v in read_absent(file, names, PARTS).values())
    if name == "boxes.csv":
        folder = ImageFolder(world / "photos", size=SIZE, boxes=file)
        return bool(torch.stack(list(folder)).isfinite().all())
    raise AssertionError(name)


TABLES = (
    "parse.npz", "parse.csv", "parse.json", "located.csv", "located.json", "judged.csv",
    "ablation.json", "labels.json", "marks.json", "marks.csv", "cub/part_locs.txt",
    "attributes.csv", "expected.csv", "absent.csv", "boxes.csv",
)  # fmt: skip
_CELLS = ("", " ", "nan", "inf", "-1", "1e999", "1e308", "x", "0x10", "\0", '"', "1,5", "\u0661",
          "true", "2", "00.png", "a" * 300, "=1+1", "9" * 400, "\ud800")  # fmt: skip


def tables(world: Path, place: Path) -> Attempt:
    """Tables, labels and marks: damaged, or with other values."""
    shutil.copytree(world / "cub", place / "cub", dirs_exist_ok=True)

    def attempt(rng: random.Random, _: Any) -> bool | str:
        name = rng.choice(TABLES)
        content, file = (world / name).read_bytes(), place / name
        how = rng.random()
        if how < 0.5 and name.endswith(".json"):
            changed = json.dumps(forged(json.loads(content), rng)).encode()
        elif how < 0.6 and name.endswith(".csv"):
            rows = list(csv.reader(io.StringIO(content.decode())))
            row = rng.choice(rows)
            row[rng.randrange(len(row))] = rng.choice(_CELLS)
            if rng.random() < 0.2:
                rng.choice((rows.append, rows.remove))(row)
            text = io.StringIO(newline="")
            csv.writer(text).writerows(rows)
            changed = text.getvalue().encode("utf-8", "surrogatepass")
        else:
            changed = damaged(content, rng, (world / rng.choice(TABLES)).read_bytes())
        file.write_bytes(changed)
        return _reads(file, world, place)

    return attempt


def weights(world: Path, place: Path) -> Attempt:
    """Files of weights."""
    (images, _), spec = pictures(2), "benchmarks.fault_families:network"

    def attempt(rng: random.Random, _: Any) -> bool | str:
        name = rng.choice(("weights.safetensors", "weights.pt"))
        other = (world / rng.choice(("weights.pt", "a.explgraph"))).read_bytes()
        (place / name).write_bytes(damaged((world / name).read_bytes(), rng, other))
        maps = record(load_model(spec, weights=place / name), images, LAYERS).maps
        return all(bool(m.isfinite().all()) for m in maps) or "activations that are no numbers"

    return attempt


def photographs(world: Path, place: Path) -> Attempt:
    """Image files: pixels, or an error that names the file."""

    def attempt(rng: random.Random, _: Any) -> bool | str:
        folder = place / "photos"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        files = rng.sample(sorted((world / "photos").iterdir()), 3)
        for file in files[1:]:
            shutil.copy(file, folder)
        content = damaged(files[0].read_bytes(), rng, files[1].read_bytes())
        (folder / files[0].name).write_bytes(content)
        try:
            images = torch.stack(list(ImageFolder(folder, size=SIZE)))
        except ExplgraphError as err:
            if files[0].name not in str(err):
                return f"an error that doesn't name {files[0].name}: {err}"
            raise
        return tuple(images.shape) == (3, 3, SIZE, SIZE) and bool(images.isfinite().all())

    return attempt


# --------------------------------------------------------------------------------------- stores


def stores(world: Path, place: Path) -> Attempt:
    """Files of stores: damaged, exchanged, lost, or from another recording."""
    model, (images, _) = network(), pictures()
    graph = explgraph.load(world / "a.explgraph")
    kinds = ("float16", "uint8", "parsed")
    whole = {kind: _held(world / kind) for kind in kinds}

    def attempt(rng: random.Random, tick: Callable[[], None]) -> bool | str:
        kind = rng.choice(kinds)
        copy = place / "store"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(world / kind, copy)
        files = sorted(file for file in copy.rglob("*") if file.is_file())
        file, other = rng.sample(files, 2)
        how = rng.randrange(6)
        if how == 0:
            one, two = file.read_bytes(), other.read_bytes()
            file.write_bytes(two)
            other.write_bytes(one)
        elif how == 1:
            file.unlink()
        elif how == 2 and kind != "parsed":
            shutil.copy(world / f"{kind} other" / file.relative_to(copy), file)
        elif how == 3 and file.name == "zarr.json":
            file.write_text(json.dumps(forged(json.loads(file.read_text()), rng)))
        else:
            file.write_bytes(damaged(file.read_bytes(), rng, other.read_bytes()))
        try:
            found: Any = _held(copy)
        except ExplgraphError:
            found = None
        if found is not None and not all(map(np.array_equal, found, whole[kind])):
            return f"{kind}: {file.relative_to(copy)} was read as another"
        tick()
        # what is missing or damaged is made again
        if kind == "parsed":
            graph.parse(model, images, out=copy)
        else:
            record(model, images, LAYERS, store=copy, dtype=kind)
        if not all(map(np.array_equal, _held(copy), whole[kind])):
            return f"{kind}: {file.relative_to(copy)} was not made again"
        return True

    return attempt


def _held(path: Path) -> list[np.ndarray]:
    """Read all that a store holds."""
    if (path / "positions").exists() or path.name == "parsed":
        found = open_parse(path)[:]
        return [found.positions, found.expected, found.scores]
    opened = open_store(path)
    return [
        torch.cat([maps for _, maps in opened.blocks(layer.index, BLOCK)]).numpy()
        for layer in opened.layers
    ]


def checkpoints(world: Path, place: Path) -> Attempt:
    """Files of an unfinished job: damaged, exchanged, lost."""
    activations = record(network(), pictures()[0], LAYERS)
    graph = explgraph.load(world / "a.explgraph")

    def attempt(rng: random.Random, _: Any) -> bool | str:
        copy = place / "unfinished"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(world / "unfinished", copy)
        file, other = rng.sample(sorted(copy.iterdir()), 2)
        if rng.random() < 0.3:
            one, two = file.read_bytes(), other.read_bytes()
            file.write_bytes(two)
            other.write_bytes(one)
        else:
            file.write_bytes(damaged(file.read_bytes(), rng, other.read_bytes()))
        same = mine_activations(activations, checkpoint=copy) == graph
        return same or f"{file.name}: another graph"

    return attempt


def sources(_: Path, place: Path) -> Attempt:
    """Images that change while a recording is interrupted, or after it."""
    model, (images, _) = network(), pictures()
    photos = place / "photos"
    photos.mkdir(exist_ok=True)

    def drawn(values: Tensor) -> ImageFolder:
        for i, image in enumerate(values):
            pixels = ((image.permute(1, 2, 0).clamp(-2, 2) + 2) * 63).byte().numpy()
            Image.fromarray(pixels).save(photos / f"{i}.bmp")
            os.utime(photos / f"{i}.bmp", (0, 0))
        return ImageFolder(photos, size=SIZE)

    def attempt(rng: random.Random, tick: Callable[[], None]) -> bool | str:
        copy, fresh = place / "store", place / "fresh"
        for one in (copy, fresh):
            shutil.rmtree(one, ignore_errors=True)
        source = rng.choice((drawn, list, lambda x: x))
        record(model, source(images), LAYERS, store=copy)
        tick()
        if rng.random() < 0.5:  # interrupted
            block = rng.randrange(3)
            shutil.rmtree(copy / rng.choice(("0", "1", "seals")) / "c" / str(block))
        other = images.clone()
        one, two = rng.sample(range(N), 2)
        if rng.random() < 0.5:
            other[[one, two]] = images[[two, one]]
        else:
            other[one, :, 4:9, 4:9] = rng.choice((1.5, -1.5))
        found = record(model, source(other), LAYERS, store=copy)
        tick()
        record(model, source(other), LAYERS, store=fresh)
        same = all(map(np.array_equal, _held(copy), _held(fresh)))
        return (same and bool(found)) or f"images {one} and {two} of {source} changed unnoticed"

    return attempt


# ------------------------------------------------------------------------- processes, disks, clocks


def _job(folder: Path, pause: float = 0.0) -> None:
    """Do everything that writes."""
    model, (images, _) = Small(pause).eval(), pictures()
    graph = mine(model, images, LAYERS, store=folder / "store", checkpoint=folder / "unfinished")
    parse = graph.parse(model, images, out=folder / "parsed")
    if distributed.is_initialized() and distributed.get_rank():
        return
    graph.save(folder / "a.explgraph")
    graph.write(folder / "a.graphml")
    parse[:8].write(folder / "a.npz")
    graph.write(folder / "a.html")


_RAW = Path("raw.txt")  # what a process that was forked raised


def _child(work: Callable[[], None], place: Path) -> int:
    """Fork; the exit code says how it ended."""
    pid = os.fork()
    if pid:
        return pid
    code = 3
    try:
        work()
        code = 0
    except ExplgraphError:
        code = 1
    except KeyboardInterrupt:
        code = 130
    except BaseException as err:
        where = traceback.extract_tb(err.__traceback__)[-1]
        (place / _RAW).write_text(f"{type(err).__name__}: {err} ({where.filename}:{where.lineno})")
    finally:
        os._exit(code)


def _said(place: Path, code: int | None) -> str:
    """Say how a process ended."""
    return (place / _RAW).read_text() if code == 3 and (place / _RAW).exists() else f"code {code}"


def _ended(pid: int, tick: Callable[[], None], until: float | None = None) -> int | None:
    """Wait for a process; give its exit code, or None when it was still running at `until`."""
    begun = last = time.monotonic()
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        now = time.monotonic()
        if until is not None and now - begun > until:
            return None
        if now - last > 1 and now - begun < 60:  # on a busy machine; then it is a hang
            tick()
            last = now
        time.sleep(0.002)


def _as_it_should_be(folder: Path, whole: Mapping[str, bytes]) -> bool | str:
    """Whether the results are those of an undisturbed run, and nothing else is there."""
    for name, content in whole.items():
        if (folder / name).read_bytes() != content:
            return f"{name} is another"
    stray = [
        str(file.relative_to(folder))
        for file in folder.rglob("*")
        if "-explgraph-" in file.name or file.suffix == ".partial"
    ]
    return not stray or f"left behind: {stray}"


def _whole(place: Path) -> dict[str, bytes]:
    """Give the results of an undisturbed run, made in a process of its own."""
    folder = place / "whole"
    if not folder.exists():
        folder.mkdir()
        if _ended(_child(lambda: _job(folder), place), lambda: None):
            raise RuntimeError("the undisturbed run failed")
    return {n: (folder / n).read_bytes() for n in ("a.explgraph", "a.graphml", "a.npz", "a.html")}


def kills(_: Path, place: Path) -> Attempt:
    """Kill processes at random moments of recording, mining, parsing and writing."""
    begun = time.monotonic()
    whole = _whole(place)
    usual = max(0.3, time.monotonic() - begun)

    def attempt(rng: random.Random, tick: Callable[[], None]) -> bool | str:
        folder = place / "job"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for _ in range(rng.choice((1, 1, 2, 3))):
            pid = _child(lambda: _job(folder), place)
            if _ended(pid, tick, rng.uniform(0, 1.1 * usual)) is None:
                os.kill(pid, rng.choice((signal.SIGKILL, signal.SIGINT, signal.SIGTERM)))
                code = _ended(pid, tick)
                if code not in (0, 130, -signal.SIGKILL, -signal.SIGTERM):
                    return f"a killed process ended by {_said(place, code)}"
        code = _ended(_child(lambda: _job(folder), place), tick)
        return _as_it_should_be(folder, whole) if code == 0 else f"went on to {_said(place, code)}"

    return attempt


def ranks(_: Path, place: Path) -> Attempt:
    """One of two processes that work together killed: the other ends, both go on later."""

    def start(folder: Path) -> list[int]:
        def work(rank: int) -> None:
            distributed.init_process_group(
                "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
            )
            (folder / f"met {rank}").touch()
            _job(folder, pause=0.05)

        for left in ("meeting", "met 0", "met 1"):
            (folder / left).unlink(missing_ok=True)
        return [_child(lambda rank=rank: work(rank), place) for rank in range(2)]

    whole_folder = place / "whole"
    begun = time.monotonic()
    if not whole_folder.exists():
        whole_folder.mkdir()
        if any(_ended(pid, lambda: None) for pid in start(whole_folder)):
            raise RuntimeError("the undisturbed run failed")
    usual = max(0.5, time.monotonic() - begun)
    whole = {"a.explgraph": (whole_folder / "a.explgraph").read_bytes()}

    def attempt(rng: random.Random, tick: Callable[[], None]) -> bool | str:
        folder = place / "job"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        pids = start(folder)
        while not all((folder / f"met {rank}").exists() for rank in range(2)):
            time.sleep(0.01)  # meeting is torchrun's work
        unlucky = rng.randrange(2)
        if _ended(pids[unlucky], tick, rng.uniform(0.05, usual)) is None:
            os.kill(pids[unlucky], signal.SIGKILL)
            _ended(pids[unlucky], tick)
        code = _ended(pids[1 - unlucky], tick)
        if code not in (0, 1):
            return f"the other process ended by {_said(place, code)}"
        codes = [_ended(pid, tick) for pid in start(folder)]
        if codes != [0, 0]:
            return f"it went on to {codes}: {_said(place, max(codes))}"
        return _as_it_should_be(folder, whole)

    return attempt


def disks(_: Path, place: Path) -> Attempt:
    """Disks that fill up at any write; there is room again afterwards."""
    whole = _whole(place)

    def attempt(rng: random.Random, tick: Callable[[], None]) -> bool | str:
        folder = place / "job"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        number, code = rng.randrange(1, 160), rng.choice((errno.ENOSPC, errno.EDQUOT, errno.EIO))

        def narrow() -> None:
            if rng.random() < 0.4:  # no file may be larger: whoever writes it, C or Python
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                most = int(10 ** rng.uniform(1, 5.5))
                resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
            else:
                _full_at(number, code)
            _job(folder)

        ended = _ended(_child(narrow, place), tick)
        if ended not in (0, 1):
            return f"write {number}: {_said(place, ended)}"
        stray = [file.name for file in folder.rglob("*") if "-explgraph-" in file.name]
        if stray:
            return f"write {number}: left behind {stray}"
        code = _ended(_child(lambda: _job(folder), place), tick)
        return _as_it_should_be(folder, whole) if code == 0 else f"went on to {_said(place, code)}"

    return attempt


def _full_at(number: int, code: int) -> None:
    """Let the file that is opened for writing as the `number`-th, and all later ones, fail."""
    usual, count = io.open, [0]

    def opened(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        stream = usual(file, mode, *args, **kwargs)
        if any(letter in mode for letter in "wax+") and str(file).startswith(tempfile_root()):
            count[0] += 1
            if count[0] >= number:
                stream.close()
                raise OSError(code, os.strerror(code), str(file))
        return stream

    io.open = opened  # type: ignore[assignment]
    import builtins

    builtins.open = opened  # type: ignore[assignment]
    os_open = os.open

    def low(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if flags & os.O_CREAT:
            count[0] += 1
            if count[0] >= number:
                raise OSError(code, os.strerror(code), str(path))
        return os_open(path, flags, *args, **kwargs)

    os.open = low


def tempfile_root() -> str:
    """Give the folder in which temporary folders are."""
    import tempfile

    return tempfile.gettempdir()


def clocks(_: Path, place: Path) -> Attempt:
    """Clocks that jump, forwards and back: the same bytes."""
    whole = _whole(place)

    def attempt(rng: random.Random, tick: Callable[[], None]) -> bool | str:
        folder = place / "job"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()

        def jumping(usual: Callable[[], Any], second: int = 1) -> Callable[[], Any]:
            return lambda: (
                usual() + second * rng.choice((0, 0, 1, 3600, -3600, 3 * 10**9, -(10**9)))
            )

        def work() -> None:
            for name in ("time", "monotonic", "perf_counter"):
                setattr(time, name, jumping(getattr(time, name)))
            for name in ("time_ns", "monotonic_ns", "perf_counter_ns"):
                usual = getattr(time, name)
                setattr(
                    time, name, lambda usual=usual: usual() + rng.choice((0, 10**18, -(10**18)))
                )
            _job(folder)

        code = _ended(_child(work, place), tick)
        return _as_it_should_be(folder, whole) if code == 0 else f"it ended by {_said(place, code)}"

    return attempt


class Family(NamedTuple):
    """What is tried, and how large a share of all tries it is."""

    make: Callable[[Path, Path], Attempt]
    share: float
    about: str


FAMILIES: Mapping[str, Family] = {
    "sealed": Family(sealed, 0.25, "graphs, localizers, trees, biases: bytes"),
    "contents": Family(contents, 0.25, "the same: contents with right checksums"),
    "tables": Family(tables, 0.25, "tables, parses, labels, marks, boxes"),
    "weights": Family(weights, 0.08, "weights"),
    "photographs": Family(photographs, 0.08, "photographs"),
    "stores": Family(stores, 0.05, "stores: damaged, exchanged, lost, foreign files"),
    "checkpoints": Family(checkpoints, 0.01, "unfinished jobs: damaged, exchanged files"),
    "sources": Family(sources, 0.01, "images that change meanwhile"),
    "kills": Family(kills, 0.005, "processes killed"),
    "ranks": Family(ranks, 0.0015, "one of two processes killed"),
    "disks": Family(disks, 0.005, "full disks"),
    "clocks": Family(clocks, 0.0015, "clocks that jump"),
}
