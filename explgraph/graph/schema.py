"""What a graph is made of: the attributes of its nodes, its edges and itself, and their checks."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import networkx
import numpy as np
from numpy.typing import NDArray

from explgraph.errors import ExplgraphError
from explgraph.network.geometry import Layer

__all__ = [
    "CLASS_EFFECT",
    "EDGE_FIELDS",
    "FORMAT_VERSION",
    "GRAPH_FIELDS",
    "NODE_FIELDS",
    "Field",
    "attributes_in_use",
    "check",
    "check_text",
    "check_version",
    "check_whereabouts",
    "class_effects",
]

FORMAT_VERSION = 2


class Field(NamedTuple):
    """What an attribute of a node or an edge must be."""

    kind: type[str] | type[int] | type[float]
    low: float = -math.inf
    high: float = math.inf
    required: bool = True


NODE_FIELDS: Mapping[str, Field] = {
    "layer": Field(str),
    "layer_index": Field(int, 0),
    "filter": Field(int, 0),
    "pattern": Field(int, 0),
    "x": Field(float),  # px; bounded by the image's size as well
    "y": Field(float),
    "sigma": Field(float, 0),  # px
    "support": Field(float, 0, 1),
    "energy": Field(float, 0, 1),
    "reliability": Field(float, 0, 1),
    "follows": Field(float, 0, 1),
    "receptive_field": Field(float, 0),  # px
    "label": Field(str),
    "part": Field(str, required=False),
    "part_weight": Field(float, 0, 1, required=False),
}
EDGE_FIELDS: Mapping[str, Field] = {
    "dx": Field(float),  # px
    "dy": Field(float),
    "sigma": Field(float, 0),  # px
    "consistency": Field(float, 0, 1),
    "coactivation": Field(float),
    "effect": Field(float, required=False),
}
CLASS_EFFECT = "effect_on_"
"""How the attributes of nodes begin that hold their effect on a class; its name follows."""
GRAPH_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "format_version": int,
    "image_size": list,
    "layers": list,
    "n_images": int,
    "config": dict,
    "seed": (int, type(None)),
    "versions": dict,
    "model_fingerprint": str,
    "preprocessing": dict,
}

# names by which the file formats tell structure from attributes
# fmt: off
_RESERVED = frozenset({
    "id", "source", "target", "key", "viz", "weight", "type", "start", "end", "name", "parent",
    "parents", "pid", "position", "node", "edge", "graph", "directed", "multigraph", "comment",
    "creator", "version", "size", "color", "label",
})
# fmt: on
_LEGAL_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_MOST_SIDE = 16384  # px, as ImageFolder takes
_FINEST = 8  # units for a pixel; networks that enlarge images have four
_EXACT_INTEGER = 2**53  # beyond it, programs that hold numbers as doubles lose digits
# what no XML 1.0 document can hold, not even escaped
_ILLEGAL_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def check(
    nx: networkx.DiGraph,
    fitted: Mapping[str, NDArray[Any]],
    top_images: Mapping[str, list[list[Any]]],
) -> None:
    """Check a graph, and what belongs to it, against the schema: see `Graph.validate`."""
    if not isinstance(nx, networkx.DiGraph) or nx.is_multigraph():
        raise ExplgraphError(f"the graph is a {type(nx).__name__}; expected a networkx.DiGraph")
    _check_graph_attributes(nx.graph)
    layers = tuple(map(Layer.from_dict, nx.graph["layers"]))
    height, width = nx.graph["image_size"]
    kinds: dict[str, type] = {}
    for node, values in nx.nodes.items():
        where = f"node {node!r}"
        if not isinstance(node, str):
            raise ExplgraphError(f"{where}: its id is a {type(node).__name__}; expected a str")
        _check_values(where, values, NODE_FIELDS, kinds)
        _check_node(where, node, values, layers)
        for name, side in (("x", width), ("y", height)):
            if not -side <= values[name] <= 2 * side:
                raise ExplgraphError(
                    f"{where}: attribute {name!r} is {values[name]!r}; expected pixels within "
                    f"one image side of the image, {-side} to {2 * side}"
                )
    kinds = {}
    for parent, child, values in nx.edges(data=True):
        where = f"edge {parent!r} -> {child!r}"
        _check_values(where, values, EDGE_FIELDS, kinds)
        upper, lower = (nx.nodes[v]["layer_index"] for v in (parent, child))
        if upper <= lower:
            raise ExplgraphError(
                f"{where}: runs from layer_index {upper} to {lower}; expected an edge from an "
                "upper layer to a lower one"
            )
    _check_fitted(fitted)
    _check_top_images(top_images, nx)


def check_version(where: str, found: Any) -> None:
    """Refuse a format version that this code doesn't read."""
    if type(found) is not int or found < 1:
        raise ExplgraphError(f"{where}: format_version is {found!r}; expected {FORMAT_VERSION}")
    if found < FORMAT_VERSION:
        raise ExplgraphError(
            f"{where} has format version {found}, of explgraph 0.{found}; this explgraph mines in "
            f"another way and reads version {FORMAT_VERSION}: mine again"
        )
    if found > FORMAT_VERSION:
        raise ExplgraphError(
            f"{where} has format version {found}; this explgraph reads version {FORMAT_VERSION}: "
            "update explgraph"
        )


def _check_graph_attributes(graph: Mapping[str, Any]) -> None:
    """Check the attributes of the graph as a whole."""
    for name, kind in GRAPH_FIELDS.items():
        if name not in graph:
            raise ExplgraphError(f"graph attribute {name!r} is missing")
        if isinstance(graph[name], bool) or not isinstance(graph[name], kind):
            kinds = kind if isinstance(kind, tuple) else (kind,)
            expected = " or ".join(k.__name__ for k in kinds)
            raise ExplgraphError(
                f"graph attribute {name!r} is {graph[name]!r}; expected {expected}"
            )
    check_version("the graph", graph["format_version"])
    size = graph["image_size"]
    if len(size) != 2 or not all(type(side) is int and 0 < side <= _MOST_SIDE for side in size):
        raise ExplgraphError(
            f"graph attribute 'image_size' is {size!r}; expected [height, width], int, px, "
            f"{_MOST_SIDE} at most"
        )
    if graph["n_images"] < 1:
        raise ExplgraphError(
            f"graph attribute 'n_images' is {graph['n_images']}; expected 1 or more"
        )
    for name, value in graph.items():
        if name not in GRAPH_FIELDS:
            _check_name("the graph", name)
        _check_plain(f"graph attribute {name!r}", value)
    _check_layer_table(graph["layers"], size)
    _check_told(graph)


def _check_told(graph: Mapping[str, Any]) -> None:
    """Check what is told of how the graph was made, as far as programs read it."""
    following = graph["config"].get("following", {})
    if not isinstance(following, dict) or any(type(v) is not float for v in following.values()):
        raise ExplgraphError(
            f"graph attribute 'config': following is {following!r}; expected {{layer: nats}}"
        )
    usual, failing = graph["config"].get("usual_fit", 0.0), graph["config"].get("several", 0)
    if type(usual) is not float or not math.isfinite(usual) or type(failing) is not int:
        raise ExplgraphError(
            f"graph attribute 'config': usual_fit is {usual!r} and several {failing!r}; expected "
            "nats and a number of images"
        )
    for name, found in graph["versions"].items():
        if not isinstance(found, str):
            raise ExplgraphError(
                f"graph attribute 'versions': {name!r} is {found!r}; expected a str"
            )
    for name, fits in _READY.items():
        found = graph["preprocessing"].get(name)
        if name in graph["preprocessing"] and not fits(found):
            raise ExplgraphError(
                f"graph attribute 'preprocessing': {name} is {found!r}; expected what "
                "ImageFolder.describe() gives"
            )
    _check_channels(graph["preprocessing"])


def _check_channels(ready: Mapping[str, Any]) -> None:
    """Check that what is told of channels is told of as many."""
    stated = ready.get("channels", 3)
    count = stated if isinstance(stated, int) else len(stated)
    for name in ("mean", "std", "window"):
        if name in ready and len(ready[name]) != count:
            raise ExplgraphError(
                f"graph attribute 'preprocessing': {name} has {len(ready[name])} values for "
                f"{count} channels"
            )
    if max(ready.get("shown", [0])) >= count:
        raise ExplgraphError(
            f"graph attribute 'preprocessing': shown is {ready['shown']}, of {count} channels"
        )


def _are_numbers(found: Any, low: float = -math.inf) -> bool:
    """Whether this is a number for each channel, above `low`."""
    return isinstance(found, list) and all(
        type(v) in (int, float) and v > low and math.isfinite(v) for v in found
    )


def _are_whole(found: Any) -> bool:
    """Whether these are numbers of channels."""
    return isinstance(found, list) and bool(found) and all(type(v) is int and v >= 0 for v in found)


def _is_window(found: Any) -> bool:
    """Whether these are two numbers for each channel, the lower one first."""
    return isinstance(found, list) and all(
        _are_numbers(pair) and len(pair) == 2 and pair[0] < pair[1] for pair in found
    )


_READY: Mapping[str, Callable[[Any], bool]] = {
    "size": lambda found: isinstance(found, list) and [type(v) for v in found] == [int, int],
    "mean": _are_numbers,
    "std": lambda found: _are_numbers(found, 0),
    "fit": lambda found: found in ("stretch", "crop", "pad"),
    "channels": lambda found: (type(found) is int and found > 0) or _are_whole(found),
    "axes": lambda found: found in (None, "HWC", "CHW"),
    "shown": lambda found: _are_whole(found) and len(found) in (1, 3),
    "window": _is_window,
    "crop": lambda found: type(found) in (int, float) and 0 < found <= 1,
    "interpolation": lambda found: found in ("bilinear", "bicubic", "lanczos", "box", "nearest"),
}


def _check_layer_table(layers: list[Any], image_size: list[int]) -> None:
    """Check that the layers are whole, numbered by their place and named apart."""
    names = set()
    for index, values in enumerate(layers):
        where = f"graph attribute 'layers', entry {index}"
        try:
            layer = Layer.from_dict(values)
        except (TypeError, AttributeError) as err:
            raise ExplgraphError(f"{where} is {values!r}; expected Layer.as_dict()") from err
        if not isinstance(layer.name, str) or not layer.name or layer.name in names:
            raise ExplgraphError(
                f"{where}: name is {layer.name!r}; expected a name of its own, not empty"
            )
        names.add(layer.name)
        if type(layer.index) is not int or layer.index != index:
            raise ExplgraphError(
                f"{where}: index is {layer.index!r}; expected {index}, lowest layer first"
            )
        for name in ("channels", "height", "width"):
            if type(getattr(layer, name)) is not int or getattr(layer, name) < 1:
                raise ExplgraphError(
                    f"{where}: {name} is {getattr(layer, name)!r}; expected an int, 1 or more"
                )
        for name, side in zip(("height", "width"), image_size, strict=True):
            if getattr(layer, name) > _FINEST * side:
                raise ExplgraphError(
                    f"{where}: {name} is {getattr(layer, name)}, in images of {side} px; expected "
                    f"{_FINEST} units for a pixel at most"
                )
        for name in ("stride", "offset", "receptive_field"):
            pair = getattr(layer, name)
            if not isinstance(pair, tuple) or [type(v) for v in pair] != [float, float]:
                raise ExplgraphError(f"{where}: {name} is {pair!r}; expected two floats, px")
            if min(pair) < 0 and name != "offset":
                raise ExplgraphError(f"{where}: {name} is {pair!r}; expected 0 or more, px")
        try:
            _ = layer.format
        except (ExplgraphError, TypeError) as err:
            raise ExplgraphError(f"{where}: {err}") from err


def _check_values(
    where: str, values: Mapping[str, Any], fields: Mapping[str, Field], kinds: dict[str, type]
) -> None:
    """Check a node's or an edge's attributes; `kinds` gathers the types of the user's own ones."""
    for name, field in fields.items():
        if name not in values:
            if not field.required:
                continue
            raise ExplgraphError(
                f"{where}: attribute {name!r} is missing; expected {_describe(field)}"
            )
        found = values[name]
        # exact types: numpy's float64 is a float that JSON and XML writers spell differently
        if field.kind is not type(found):
            raise ExplgraphError(
                f"{where}: attribute {name!r} is {found!r} of type {type(found).__name__}; "
                f"expected {_describe(field)}"
            )
        if isinstance(found, str):
            check_text(f"{where}: attribute {name!r}", found)
        elif not field.low <= found <= field.high or not math.isfinite(found):
            raise ExplgraphError(
                f"{where}: attribute {name!r} is {found!r}; expected {_describe(field)}"
            )
    for name in values.keys() - fields.keys():
        _check_name(where, name)
        found = values[name]
        if type(found) not in (str, int, float, bool):
            raise ExplgraphError(
                f"{where}: attribute {name!r} is {found!r} of type {type(found).__name__}; "
                "expected a plain str, int, float or bool (numpy: value.item())"
            )
        _check_plain(f"{where}: attribute {name!r}", found)
        if kinds.setdefault(name, type(found)) is not type(found):
            raise ExplgraphError(
                f"{where}: attribute {name!r} is {found!r} of type {type(found).__name__}; "
                f"expected {kinds[name].__name__} as on others before it"
            )


def _check_node(
    where: str, node: str, values: Mapping[str, Any], layers: tuple[Layer, ...]
) -> None:
    """Check that a node's id, layer, filter and pattern belong together."""
    index = values["layer_index"]
    if index >= len(layers) or layers[index].name != values["layer"]:
        at_index = repr(layers[index].name) if index < len(layers) else "no layer"
        raise ExplgraphError(
            f"{where}: attribute 'layer' is {values['layer']!r} and 'layer_index' is {index}, "
            f"where the graph has {at_index}; expected a layer of graph attribute 'layers'"
        )
    if values["filter"] >= layers[index].channels:
        raise ExplgraphError(
            f"{where}: attribute 'filter' is {values['filter']}; expected at most "
            f"{layers[index].channels - 1}, the layer's last"
        )
    name = layers[index].filter_name(values["filter"])
    expected = f"{values['layer']}/{name}/{values['pattern']}"
    if node != expected:
        raise ExplgraphError(
            f"{where}: its id is {node!r}; expected {expected!r}, '<layer>/<filter>/<pattern>'"
        )


def _check_name(where: str, name: Any) -> None:
    """Refuse attribute names that some file format can't carry."""
    if not isinstance(name, str) or not _LEGAL_NAME.fullmatch(name) or name.lower() in _RESERVED:
        raise ExplgraphError(
            f"{where}: attribute name {name!r}; expected letters, digits and _, a letter first, "
            f"and none of {', '.join(sorted(_RESERVED))}"
        )


def check_text(where: str, text: str) -> None:
    """Refuse characters that XML can't hold."""
    if bad := _ILLEGAL_TEXT.search(text):
        raise ExplgraphError(
            f"{where} holds the character U+{ord(bad[0]):04X}, which files can't carry; remove it"
        )


def _check_plain(where: str, value: Any) -> None:
    """Check that a value comes back from JSON as it was."""
    if type(value) is str:
        check_text(where, value)
    elif type(value) is dict:
        for key, entry in value.items():
            if type(key) is not str:
                raise ExplgraphError(f"{where}: key {key!r}; expected a str")
            check_text(f"{where}, key {key!r}", key)
            _check_plain(f"{where}, key {key!r}", entry)
    elif type(value) is list:
        for k, entry in enumerate(value):
            _check_plain(f"{where}, entry {k}", entry)
    elif type(value) is float:
        if not math.isfinite(value):
            raise ExplgraphError(f"{where} is {value!r}; expected a finite number")
    elif type(value) is int:
        if abs(value) > _EXACT_INTEGER:
            raise ExplgraphError(f"{where} is {value!r}; expected an int of at most 2**53")
    elif value is not None and type(value) is not bool:
        raise ExplgraphError(
            f"{where} is {value!r} of type {type(value).__name__}; expected plain JSON values "
            "(dict, list, str, int, float, bool or None)"
        )


def _check_fitted(fitted: Mapping[str, Any]) -> None:
    """Check that the parameters are arrays that safetensors can hold."""
    for name, array in fitted.items():
        if (
            not isinstance(name, str)
            or not isinstance(array, np.ndarray)
            or array.dtype.kind not in "biuf"
            or array.dtype.itemsize > 8
            or not array.dtype.isnative
        ):
            found = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            raise ExplgraphError(
                f"fitted[{name!r}] is {found}; expected a numpy array of bool, int or float under "
                "a name"
            )


def _check_top_images(top_images: Mapping[str, Any], nx: networkx.DiGraph) -> None:
    """Check that the images belong to nodes and have a name, a place and a score."""
    for node, seen in top_images.items():
        if node not in nx:
            raise ExplgraphError(f"top_images names {node!r}; expected a node of the graph")
        for entry in seen if isinstance(seen, list) else [seen]:
            if (
                not isinstance(entry, list)
                or [type(value) for value in entry] != [str, float, float, float]
                or not all(map(math.isfinite, entry[1:]))
            ):
                raise ExplgraphError(
                    f"top_images[{node!r}] holds {entry!r}; expected a list of "
                    "[image name, x, y, score], str and finite floats"
                )


def check_whereabouts(record: Any, image_size: tuple[int, int]) -> None:
    """Check what a graph says of where its images are: see `explgraph.images.whereabouts`.

    Graphs come from strangers, too: the folder must be one of this machine, and files lie in it.

    Raises
    ------
    ExplgraphError
    """
    where = "whereabouts"
    if not isinstance(record, dict) or record.keys() != {"folder", "photographs"}:
        raise ExplgraphError(f"{where} is {record!r:.80}; expected folder and photographs")
    folder, photographs = record["folder"], record["photographs"]
    if not isinstance(folder, str) or not folder or "\0" in folder or folder[:2] in _HOSTS:
        raise ExplgraphError(
            f"{where} names the folder {folder!r:.80}; expected an absolute path on this machine"
        )
    if not isinstance(photographs, dict):
        raise ExplgraphError(f"{where}: photographs is {photographs!r:.80}; expected a dict")
    for name, one in photographs.items():
        told = f"{where}: {name!r:.80}"
        if not isinstance(name, str) or not isinstance(one, dict) or one.keys() != _PHOTOGRAPH:
            raise ExplgraphError(
                f"{told} is {one!r:.80}; expected {', '.join(sorted(_PHOTOGRAPH))}"
            )
        file = one["file"]
        if not isinstance(file, str) or not file or "\0" in file or not _is_within(file):
            raise ExplgraphError(f"{told} has the file {file!r:.80}, which isn't within it")
        for key, kind in (("source", float), ("target", int)):
            box = one[key]
            if (
                not isinstance(box, list)
                or [type(value) for value in box] != [kind] * 4
                or not all(abs(value) <= _FARTHEST for value in box)
            ):
                raise ExplgraphError(f"{told} has {key} {box!r:.80}; expected 4 numbers")
        x0, y0, x1, y1 = one["source"]
        if not (0 <= x0 < x1 and 0 <= y0 < y1):
            raise ExplgraphError(
                f"{told} has source {one['source']}; expected a box x0, y0, x1, y1 with "
                "0 <= x0 < x1 and 0 <= y0 < y1"
            )
        left, top, wide, high = one["target"]
        if (
            min(left, top) < 0 or min(wide, high) < 1
            or left + wide > image_size[1] or top + high > image_size[0]
        ):  # fmt: skip
            raise ExplgraphError(
                f"{told} has target {one['target']}; expected a box within the images"
            )
        if not isinstance(one["digest"], str):
            raise ExplgraphError(f"{told} has digest {one['digest']!r:.80}; expected a str")


_PHOTOGRAPH = {"file", "source", "target", "digest"}
_HOSTS = ("//", "\\\\", "\\/", "/\\")  # Windows asks another host, and tells it who asks
_FARTHEST = 1e6  # px, of any photograph


def _is_within(file: str) -> bool:
    """Whether a path, with slashes, leads nowhere but into its folder, on any system."""
    return not file.startswith("/") and ":" not in file and ".." not in re.split(r"[/\\]", file)


def class_effects(nodes: Iterable[Mapping[str, Any]]) -> list[str]:
    """Name the attributes of nodes that hold effects on classes."""
    return sorted(
        {
            name
            for values in nodes
            for name, value in values.items()
            if name.startswith(CLASS_EFFECT) and isinstance(value, float)
        }
    )


def _describe(field: Field) -> str:
    """Say in words what a field takes."""
    if field.kind is str:
        return "str"
    if field.low == -math.inf:
        return f"a finite {field.kind.__name__}"
    if field.high == math.inf:
        return f"a finite {field.kind.__name__}, {field.low:g} or more"
    return f"a {field.kind.__name__} from {field.low:g} to {field.high:g}"


def attributes_in_use(fields: Mapping[str, Field], rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names of all attributes in use: the schema's in its order, then others by name."""
    used = set().union(*rows)
    return [name for name in fields if name in used or fields[name].required] + sorted(
        used - fields.keys()
    )
