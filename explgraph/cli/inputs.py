"""What options name: photographs made ready, and files with names and values."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_type_hints

from explgraph.errors import ExplgraphError, nearest
from explgraph.textfiles import read_json, read_text

if TYPE_CHECKING:
    from torch import nn

    from explgraph.graph.graph import Graph
    from explgraph.images.folder import ImageFolder
    from explgraph.mining.settings import Settings
    from explgraph.network.outputs import Outputs

__all__ = [
    "classes",
    "made_ready_as",
    "open_for_model",
    "open_others",
    "open_photographs",
    "pictures_for",
    "read_by_layer",
    "read_list",
    "read_outputs",
    "read_settings",
]


def made_ready_as(
    options: argparse.Namespace,
    graph: Graph | None,
    known: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Say how photographs are made ready: as options say, or as they were for the graph.

    Without a graph, what the model says (`known`) stands for what options don't.
    """
    from explgraph.images.channels import channel_count
    from explgraph.images.ready import READY

    told = known or {} if graph is None else graph.nx.graph["preprocessing"]
    ready = {name: told[name] for name in READY if name in told}
    if graph is not None and not ready:
        # a tensor was mined, so only its size is known
        ready["size"] = graph.image_size
        missing = [name for name in ("mean", "std") if getattr(options, name, None) is None]
        if missing:
            raise ExplgraphError(
                "the graph doesn't say how its images were normalised, for it was mined from a "
                f"tensor; give {' and '.join(f'--{name}' for name in missing)}"
            )
    given = {name: getattr(options, name, None) for name in READY}
    given = {name: value for name, value in given.items() if value is not None}
    if given.get("fit", "crop") != "crop" or (
        graph is None and getattr(options, "boxes", None) is not None and "fit" not in given
    ):
        # what was cut off photographs of a whole scene would be cut off the object in its box
        ready.pop("crop", None)
        ready["fit"] = "stretch"
    channels = given.get("channels", ready.get("channels"))
    if channel_count(channels) != channel_count(ready.get("channels")):
        # the mean and spread of other channels say nothing of these
        ready = {name: value for name, value in ready.items() if name not in ("mean", "std")}
    ready |= given
    for name in ("mean", "std"):
        if len(ready.get(name, ())) == 1:  # for all channels
            ready[name] = tuple(ready[name]) * channel_count(ready.get("channels"))
    if graph is not None and tuple(ready["size"]) != graph.image_size:
        raise ExplgraphError(
            "--size {} x {} doesn't fit the graph, which was mined on images of {} x {} px".format(
                *ready["size"], *graph.image_size
            )
        )
    return ready


def open_for_model(options: argparse.Namespace, model: nn.Module, tell: bool) -> ImageFolder:
    """Open the photographs that are to be mined, made ready as options or the model say; print it.

    What neither says is `ImageFolder`'s, but for the size: one that the model runs on.
    """
    from explgraph.images.channels import channel_count
    from explgraph.images.ready import READY
    from explgraph.network.preprocessing import image_size, preprocessing, told

    known = preprocessing(model)
    if "size" not in known and options.size is None:
        known["size"] = image_size(model, channel_count(options.channels))
    images = open_photographs(options, None, known)
    given = [name for name in READY if getattr(options, name) is not None]
    flags = [f"--{name}" for name in given]
    if tell and not options.quiet and not {"size", "mean", "std", *known} <= {*given}:
        but = f" but for {', '.join(flags)}" if flags else ""
        by = f"as {options.model} says{but}"
        if not {"mean", "std"} <= known.keys():
            by = f"since {options.model} doesn't say"
            by += f", {', '.join(flags)} as given" if flags else "; --size, --mean, --std change it"
        print(f"photographs: {told(images.describe())}, {by}")
    return images


def open_photographs(
    options: argparse.Namespace,
    graph: Graph | None,
    known: Mapping[str, Any] | None = None,
) -> ImageFolder:
    """Open the photographs, made ready as `made_ready_as` says."""
    from explgraph.images.folder import ImageFolder

    ready = made_ready_as(options, graph, known)
    names = None
    if getattr(options, "list", None) is not None:
        names = read_list(options.list, "--list")
    elif getattr(options, "one_per_source", None) is not None:
        names = _one_per_source(options.one_per_source)
    return ImageFolder(
        options.images,
        boxes=getattr(options, "boxes", None),
        box_class=classes(getattr(options, "box_class", None)),
        names=names,
        unreadable=getattr(options, "unreadable", "refuse"),
        largest=getattr(options, "largest", None),
        progress=not options.quiet,
        **ready,
    )


def classes(chosen: Sequence[str] | None) -> Sequence[str] | str | None:
    """Give classes as Python takes them, where ``*`` is all."""
    return "*" if chosen is not None and "*" in chosen else chosen


def open_others(options: argparse.Namespace, images: str, graph: Graph) -> ImageFolder:
    """Open all photographs of another folder, made ready alike."""
    others = {
        "images": images,
        "boxes": None,
        "box_class": None,
        "list": None,
        "one_per_source": None,
    }
    return open_photographs(argparse.Namespace(**{**vars(options), **others}), graph)


def pictures_for(
    options: argparse.Namespace, graph: Graph, out: str = "the page"
) -> dict[str, Any]:
    """Give what pictures are cut from: images that options name, or that the graph remembers."""
    if options.images is not None:
        images = open_photographs(options, graph)
    else:
        remembered = _remembered(options, graph, out)
        if remembered is None:
            return {}
        images = remembered
    if options.model is None:
        return {"images": images}
    from explgraph.network.models import load_model
    from explgraph.parsing import parse

    found = parse(
        load_model(options.model, weights=options.weights),
        graph,
        images,
        batch_size=options.batch_size,
        device=options.device,
        progress=not options.quiet,
    )
    return {"images": images, "parse": found}


def _remembered(options: argparse.Namespace, graph: Graph, out: str) -> ImageFolder | None:
    """Open the images that the graph remembers, and say which folder that is."""
    from explgraph.views.remembered import remembered_for

    if options.model is not None and graph.whereabouts is None:
        raise ExplgraphError("--model needs --images, the photographs to parse")
    images = remembered_for(graph, out)
    if images is not None:
        if not options.quiet:
            print(f"pictures from {images.path}")
        return images
    if options.model is not None:
        raise ExplgraphError("--model needs --images, since the images aren't there any more")
    if graph.whereabouts is None and not options.quiet:
        print(
            "no pictures: the graph doesn't know where its images are; give the folder by --images"
        )
    graph.whereabouts = None  # whoever writes the graph would look again, and warn again
    return None


def read_by_layer(options: argparse.Namespace, option: str) -> dict[str, str]:
    """Read what ``--layout`` or ``--signs`` states, by layer."""
    stated: dict[str, str] = {}
    for layer, value in getattr(options, option):
        if layer in stated:
            which = "all layers" if layer == "*" else repr(layer)
            raise ExplgraphError(f"--{option} is given twice for {which}")
        stated[layer] = value
    for_all = stated.pop("*", None)
    return stated if for_all is None else dict.fromkeys(options.layers, for_all) | stated


def read_settings(pairs: Sequence[tuple[str, str]]) -> Settings:
    """Read settings of mining; their types are those of the fields of `Settings`."""
    from explgraph.mining.settings import Settings

    kinds = get_type_hints(Settings)
    values = {}
    for name, text in pairs:
        if name not in kinds or name in values:
            what = "is given twice" if name in values else f"is unknown{nearest(name, kinds)}"
            raise ExplgraphError(f"--set: {name!r} {what}; there are {', '.join(kinds)}")
        try:
            values[name] = kinds[name](text)
        except ValueError as err:
            raise ExplgraphError(
                f"--set {name}={text}: expected a {'whole ' if kinds[name] is int else ''}number"
            ) from err
    try:
        return Settings(**values)
    except ExplgraphError as err:
        raise ExplgraphError(f"--set: {err}") from err


def read_outputs(options: argparse.Namespace) -> Outputs | None:
    """Import the function that ``--outputs`` names."""
    from explgraph.network.models import load_outputs

    return None if options.outputs is None else load_outputs(options.outputs)


def read_list(file: str, option: str) -> list[str]:
    """Read names, a line each; empty lines don't count."""
    lines = read_text(file, option).splitlines()
    return [line.strip() for line in lines if line.strip()]


def _one_per_source(file: str) -> list[str]:
    """Name the first crop of each photograph."""
    content = read_json(file, "--one-per-source")
    source = content.get("source") if isinstance(content, dict) else None
    if not isinstance(source, dict):
        raise ExplgraphError(
            f'--one-per-source {file!r}: expected {{"source": {{CROP: PHOTOGRAPH}}}}'
        )
    first: dict[str, str] = {}
    for crop, photograph in source.items():
        first.setdefault(str(photograph), crop)
    return list(first.values())
