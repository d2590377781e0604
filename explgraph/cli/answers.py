"""Questions about the network: ``bias``, ``effects``, ``ablate``, ``tree``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explgraph.brief import counted
from explgraph.cli.inputs import open_others, open_photographs, read_list, read_outputs
from explgraph.cli.options import (
    Command,
    add_by,
    add_graph,
    add_images,
    add_model,
    add_outputs,
    class_,
    names,
    numbered,
    pairs,
    positive,
    seed,
    top,
)
from explgraph.cli.outputs import check_out, print_table
from explgraph.errors import ExplgraphError
from explgraph.suffixes import GRAPHS, REPORTS, SUSPICIONS, TABLES, TREES

if TYPE_CHECKING:
    from torch import nn

    from explgraph.answers.ablation import PartAblation
    from explgraph.explanatory_graph import ExplanatoryGraph

__all__ = ["add"]

_SHOWN = 5  # strongest edges and parts
_CLASSES = 10  # that change most


def add(command: Command) -> None:
    """Add the commands."""
    bias = command(
        "bias",
        _bias,
        "find attributes that the network tells by other attributes, or biases that nobody named",
        "explgraph bias birds-graph/graph.explgraph --images birds \\",
        "    --model package.module:factory --attributes attributes.csv \\",
        "    --columns crest=0,striped=1,red_bill=4 --judge new --out bias.md",
        "explgraph bias birds-graph/graph.explgraph --images birds \\",
        "    --model torchvision:vgg16 --labels classes.csv --out hidden.html --out hidden.csv",
    )
    add_graph(bias)
    bias.add_argument(
        "--attributes",
        metavar="FILE",
        help="labels: CSV with the columns name, then one for each attribute, of 1 and 0 "
        "(default: what some images of a class share is looked for)",
    )
    bias.add_argument(
        "--labels",
        metavar="FILE",
        help="without --attributes: images' classes, CSV name,class (default: the names of the "
        "folders that they lie in, or else the network's answers, and nothing is tested)",
    )
    bias.add_argument(
        "--classes",
        type=names,
        metavar="A,B",
        help="without --attributes: classes that are examined (default: all with enough images)",
    )
    bias.add_argument(
        "--columns",
        type=numbered,
        metavar="A=K,B=L",
        help="each attribute's column of the model's output, from 0 (default: in the CSV's order)",
    )
    bias.add_argument(
        "--expected",
        metavar="FILE",
        help="relations that are right: CSV target,source,relation, of 1 and -1 (default: none)",
    )
    bias.add_argument(
        "--landmarks",
        metavar="FILE",
        help="marked parts, to tell where the evidence sits; see evaluate",
    )
    bias.add_argument(
        "--parts", type=pairs, metavar="A=PART", help="the part that defines an attribute"
    )
    bias.add_argument(
        "--layer", metavar="NAME", help="whose nodes are asked (default: the top one)"
    )
    add_by(bias, "the report says which parts carry a relation")
    bias.add_argument(
        "--margin",
        type=float,
        metavar="S",
        help="strength that isn't suspicious (0.2; without --attributes surplus, 0.1)",
    )
    bias.add_argument(
        "--fdr", type=float, default=0.05, metavar="Q", help="rate of false discoveries (0.05)"
    )
    bias.add_argument(
        "--judge", metavar="DIR", help="other photographs, without labels, to be judged"
    )
    bias.add_argument(
        "--out",
        action="append",
        default=[],
        metavar="FILE",
        help=".md (relations and doubtful answers), .json (all of them), .csv or .parquet "
        "(relations); without --attributes also .html, .png, .svg and .pdf; may be given several "
        "times",
    )
    bias.add_argument("--seed", type=seed, default=0)
    add_model(bias, required=True)
    add_outputs(bias)
    add_images(bias, required=True)

    effects = command(
        "effects",
        _effects,
        "measure what each part does to those above it and to classes, checked by ablation",
        "explgraph effects birds-graph/graph.explgraph --images birds \\",
        "    --model torchvision:vgg16 --classes robin=15,jay=17 --out causes.explgraph",
    )
    add_graph(effects)
    effects.add_argument(
        "--out",
        required=True,
        metavar="FILE",
        help=f"the graph with effects: {', '.join(GRAPHS)}",
    )
    effects.add_argument(
        "--classes",
        type=numbered,
        default={},
        metavar="NAME=N,...",
        help="classes to measure effects on, with their numbers in the model's output",
    )
    add_by(effects, "print the effects of nodes, or of parts: sums over their nodes")
    effects.add_argument(
        "--top",
        type=top,
        metavar="N",
        help="the most reliable nodes alone: a number, or 0.25 of all (default: all)",
    )
    effects.add_argument(
        "--check",
        type=positive,
        default=100,
        metavar="N",
        help="edges whose effects are compared with true ablation (100)",
    )
    effects.add_argument("--seed", type=seed, default=0, help="of the edges that are compared")
    add_model(effects, required=True)
    add_outputs(effects)
    add_images(effects, required=True)

    ablate = command(
        "ablate",
        _ablate,
        "run the network without some parts and tell how the classes' scores change",
        "explgraph ablate birds-graph/graph.explgraph --nodes features.28/17/0 \\",
        "    --images birds --model torchvision:vgg16",
        "explgraph ablate birds-graph/graph.explgraph --by part \\",
        "    --images birds --model torchvision:vgg16 --out without.csv",
    )
    add_graph(ablate)
    ablate.add_argument(
        "--nodes",
        type=names,
        metavar="A,B",
        help="nodes to take away together; a part's id or name stands for all its nodes "
        "(with --by part: parts; default: all)",
    )
    add_by(ablate, "take nodes away together, or one part at a time")
    ablate.add_argument(
        "--replacement",
        choices=("zero", "mean", "resampled"),
        default="zero",
        help="what stands in for what is taken away: nothing, the images' mean, or what another "
        "image has there (zero)",
    )
    ablate.add_argument("--seed", type=seed, default=0, help="of --replacement resampled")
    ablate.add_argument("--out", metavar="FILE", help=f"every image's scores: {', '.join(TABLES)}")
    add_model(ablate, required=True)
    add_outputs(ablate)
    add_images(ablate, required=True)

    tree = command(
        "tree",
        _tree,
        "explain a class by a tree of decision modes over parts",
        "explgraph tree birds-graph/graph.explgraph --images mixed --class 15 \\",
        "    --model torchvision:vgg16 --out robin.html",
    )
    add_graph(tree)
    tree.add_argument(
        "--class",
        dest="target",
        type=class_,
        required=True,
        metavar="NAME|N",
        help="the class: its number in the model's output, or its name where the model says it",
    )
    tree.add_argument(
        "--positive",
        metavar="FILE",
        help="names of the images of the class, a line each (default: where it has the top score)",
    )
    tree.add_argument("--layer", metavar="A", help="whose nodes explain (default: the highest)")
    add_by(tree, "decide by nodes, or by parts: sums over their nodes")
    tree.add_argument(
        "--out",
        required=True,
        action="append",
        metavar="FILE",
        help=f"{', '.join(TREES)}; may be given several times",
    )
    add_model(tree, required=True)
    add_outputs(tree)
    add_images(tree, required=True)


def _bias(options: argparse.Namespace) -> None:
    """Run ``explgraph bias``."""
    from explgraph.answers.bias import find_bias
    from explgraph.answers.label_files import read_attributes, read_expected
    from explgraph.evaluation.landmarks import read_landmarks
    from explgraph.explanatory_graph import load
    from explgraph.network.models import load_model

    if options.attributes is None:
        _hidden_bias(options)
        return
    for option in ("labels", "classes"):
        if getattr(options, option) is not None:
            raise ExplgraphError(f"--{option} is for biases without --attributes; leave one out")
    for out in options.out:
        check_out(out, REPORTS)
    if options.parts and options.landmarks is None:
        raise ExplgraphError("--parts needs --landmarks, where the parts are marked")
    graph = load(options.graph)
    images = open_photographs(options, graph)
    attributes = read_attributes(options.attributes, images.names, images.all_names)
    expected = read_expected(options.expected) if options.expected is not None else None
    marked = {}
    if options.landmarks is not None:
        marked = read_landmarks(options.landmarks).to_network(images).parts
    model = load_model(options.model, weights=options.weights)
    outputs = read_outputs(options)
    running = {"batch_size": options.batch_size, "device": options.device}
    bias = find_bias(
        model,
        graph,
        images,
        attributes,
        columns=options.columns,
        outputs=outputs,
        expected=expected,
        landmarks=marked,
        parts=options.parts,
        layer=options.layer,
        by=options.by,
        margin=options.margin,
        fdr=options.fdr,
        seed=options.seed,
        progress=not options.quiet,
        **running,
    )
    judged = bias.judged
    if options.judge is not None:
        there = open_others(options, options.judge, graph)
        judged = bias.judge(model, there, outputs=outputs, progress=not options.quiet, **running)
    for out in options.out:
        bias.write(out, judged=judged)
    if not options.quiet or not options.out:
        found = len(bias.suspicious)
        print(
            f"{counted(len(images), 'image')}; {found} of "
            f"{counted(len(bias.relations), 'relation')} are suspicious\n"
        )
        print(bias.report(judged), end="")


def _hidden_bias(options: argparse.Namespace) -> None:
    """Run ``explgraph bias`` without attributes."""
    from explgraph.answers.hidden_bias import MARGIN, find_suspicions
    from explgraph.answers.label_files import folder_classes, read_labels
    from explgraph.explanatory_graph import load
    from explgraph.network.models import load_model
    from explgraph.textfiles import wrong_columns

    for option in ("columns", "expected", "landmarks", "parts", "judge"):
        if getattr(options, option):
            raise ExplgraphError(f"--{option} needs --attributes, labels of attributes")
    for out in options.out:
        check_out(out, SUSPICIONS)
    graph = load(options.graph)
    images = open_photographs(options, graph)
    classes = folder_classes(images.names)
    if options.labels is not None:
        classes = list(read_labels(options.labels, images.names, images.all_names).classes)
        if not classes:
            raise wrong_columns(options.labels, "name and class", ["name", "label"])
    found = find_suspicions(
        load_model(options.model, weights=options.weights),
        graph,
        images,
        classes,
        target=options.classes,
        layer=options.layer,
        margin=MARGIN if options.margin is None else options.margin,
        fdr=options.fdr,
        seed=options.seed,
        outputs=read_outputs(options),
        batch_size=options.batch_size,
        device=options.device,
        progress=not options.quiet,
    )
    for out in options.out:
        found.write(out, images)
    if not options.quiet or not options.out:
        print(
            f"{counted(len(images), 'image')} of {counted(len(found.classes), 'class')} examined; "
            f"{len(found.suspicious)} of {counted(len(found.suspicions), 'group')} suspicious\n"
        )
        print(found.report(), end="")


def _effects(options: argparse.Namespace) -> None:
    """Run ``explgraph effects``."""
    from explgraph.answers.effects import check_effects, edge_effects
    from explgraph.explaining.by_part import find_parts, names_of_nodes
    from explgraph.explanatory_graph import load
    from explgraph.graph.schema import CLASS_EFFECT
    from explgraph.network.models import load_model

    check_out(options.out, GRAPHS)
    graph = load(options.graph)
    if options.top is not None:
        graph = graph.prune(top=options.top)
    if options.by == "part":
        find_parts(graph, None)  # are there any?
    images = open_photographs(options, graph)
    model = load_model(options.model, weights=options.weights)
    ready: dict[str, Any] = {
        "outputs": read_outputs(options),
        "batch_size": options.batch_size,
        "device": options.device,
    }
    measured = edge_effects(
        model, graph, images, classes=options.classes, progress=not options.quiet, **ready
    )
    measured.write(options.out)
    if options.quiet:
        return
    edges = dict(measured.nx.edges.items())
    print(
        f"{options.out}: effects along {counted(len(edges), 'edge')}, over "
        f"{counted(len(images), 'image')}"
    )
    if len(edges) >= 3:
        check = check_effects(
            model,
            measured,
            images,
            edges=options.check,
            seed=options.seed,
            progress=not options.quiet,
            **ready,
        )
        print(
            f"rank correlation with true ablation of {counted(len(check.edges), 'edge')}: "
            f"{check.rank_correlation:.2f}"
        )
    if options.by == "part":
        _print_part_effects(measured, options.classes)
        _print_accounts(measured, options.classes)
        return
    strongest = sorted(edges, key=lambda edge: -abs(edges[edge]["effect"]))[:_SHOWN]
    print()
    print_table(
        ("parent", "child", "effect on the parent's score"),
        [(*names_of_nodes(measured, edge), f"{edges[edge]['effect']:+.1%}") for edge in strongest],
    )
    for name in options.classes:
        values = dict(measured.nx.nodes(data=CLASS_EFFECT + name))
        best = sorted(values, key=lambda node: -abs(values[node]))[:_SHOWN]
        told = zip(names_of_nodes(measured, best), best, strict=True)
        print()
        print_table(
            (f"part, effect on {name}", ""), [(title, f"{values[v]:+.3g}") for title, v in told]
        )
    _print_accounts(measured, options.classes)


def _print_accounts(measured: ExplanatoryGraph, classes: Iterable[str]) -> None:
    """Print whether effects on classes add up, and how much of them goes through edges."""
    import numpy as np

    from explgraph.answers.class_effects import layer_effects

    for name in classes:
        rows = [
            (
                one.layer,
                f"{one.carried:+.3g}",
                f"{one.own.sum():+.3g}",
                f"{one.rests.no_node:+.3g}",
                f"{one.rests.residual:+.2g}",
                "" if np.isnan(one.share) else f"{one.share:.0%}",
                "" if np.isnan(one.share) else f"{one.rank_correlation:.2f}",
            )
            for one in reversed(layer_effects(measured, name))
        ]
        print()
        print_table(
            (
                f"layer, of {name}",
                "carries",
                "nodes",
                "no node",
                "missed",
                "through edges",
                "order",
            ),
            rows,
        )


def _print_part_effects(measured: ExplanatoryGraph, classes: Iterable[str]) -> None:
    """Print the parts that do most to other parts and to classes."""
    import numpy as np

    from explgraph.answers.class_effects import part_effects
    from explgraph.explaining.by_part import different_titles

    titles = different_titles(measured.parts)
    edges = measured.part_graph().edges(data="effect", default=0.0)
    strongest = sorted(edges, key=lambda edge: -abs(edge[2]))[:_SHOWN]
    print()
    print_table(
        ("part", "part that it goes with", "effect, mean"),
        [(titles[a], titles[b], f"{effect:+.2f}") for a, b, effect in strongest],
    )
    for name in classes:
        found = part_effects(measured, name)
        most = np.argsort(-np.abs(found.values).max(0), kind="stable")[:_SHOWN].tolist()
        print()
        table = [(found.titles[k], found.values[:, k]) for k in most]
        print_table(
            (f"part, effect on {name} in", *reversed(found.layers)),
            [
                (title, *(f"{v:+.3g}" for v in reversed(values)))
                for title, values in (*table, ("no part", found.rests.no_part))
            ],
        )


def _ablate(options: argparse.Namespace) -> None:
    """Run ``explgraph ablate``."""
    import numpy as np

    from explgraph.answers.ablation import ablate, ablate_parts
    from explgraph.explaining.by_part import find_parts
    from explgraph.explanatory_graph import load
    from explgraph.network.class_names import class_names, class_title
    from explgraph.network.models import load_model

    check_out(options.out, TABLES)
    if options.nodes is None and options.by == "node":
        raise ExplgraphError(
            "ablate needs --nodes A,B, what to take away, or --by part, to take away each part by "
            "itself"
        )
    graph = load(options.graph)
    if options.by == "part":
        find_parts(graph, options.nodes)  # are there any?
    images = open_photographs(options, graph)
    model = load_model(options.model, weights=options.weights)
    running: dict[str, Any] = {
        "replacement": options.replacement,
        "seed": options.seed,
        "outputs": read_outputs(options),
        "batch_size": options.batch_size,
        "device": options.device,
        "progress": not options.quiet,
    }
    if options.by == "part":
        without = ablate_parts(model, graph, images, options.nodes, **running)
        if options.out is not None:
            without.write(options.out)
        if not options.quiet:
            _print_part_ablation(without, model)
        return
    found = ablate(model, graph, images, options.nodes, **running)
    if options.out is not None:
        found.write(options.out)
    if options.quiet:
        return
    mean = found.change.mean(0)
    known = class_names(model, len(mean))
    strongest = np.argsort(-np.abs(mean), kind="stable")[:_CLASSES].tolist()
    print(f"mean over {counted(len(found.names), 'image')}; the classes whose scores change most\n")
    print_table(
        ("class", "before", "after", "change"),
        [
            (
                class_title(k, known),
                f"{found.before[:, k].mean():.3f}",
                f"{found.after[:, k].mean():.3f}",
                f"{mean[k]:+.3f}",
            )
            for k in strongest
        ],
    )


def _print_part_ablation(without: PartAblation, model: nn.Module) -> None:
    """Print, for each part, the class whose score changes most without it."""
    import numpy as np

    from explgraph.network.class_names import class_names, class_title

    known = class_names(model, without.before.shape[1])
    mean = without.change.mean(1)
    most = np.abs(mean).argmax(1)
    print(
        f"mean over {counted(len(without.names), 'image')}; for each part, taken away by itself, "
        "the class "
        "whose score changes most\n"
    )
    by_size = np.argsort(-np.abs(mean).max(1), kind="stable").tolist()
    print_table(
        ("part", "class", "before", "change"),
        [
            (
                without.titles[k],
                class_title(int(most[k]), known),
                f"{without.before[:, most[k]].mean():.3f}",
                f"{mean[k, most[k]]:+.3f}",
            )
            for k in by_size
        ],
    )


def _tree(options: argparse.Namespace) -> None:
    """Run ``explgraph tree``."""
    import numpy as np

    from explgraph.answers.decision_tree import DecisionTree
    from explgraph.explanatory_graph import load
    from explgraph.network.models import load_model
    from explgraph.views.pictures import Pictures

    for out in options.out:
        check_out(out, TREES)
    graph = load(options.graph)
    images = open_photographs(options, graph)
    positive = None
    if options.positive is not None:
        named = set(read_list(options.positive, "--positive"))
        if missing := sorted(named - set(images.names)):
            raise ExplgraphError(
                f"--positive {options.positive!r} names {missing[0]!r}, which --images lacks"
            )
        positive = np.array([name in named for name in images.names])
    tree = DecisionTree.fit(
        load_model(options.model, weights=options.weights),
        graph,
        images,
        options.target,
        positive=positive,
        layer=options.layer,
        by=options.by,
        outputs=read_outputs(options),
        batch_size=options.batch_size,
        device=options.device,
        progress=not options.quiet,
    )
    for out in map(Path, options.out):
        seen = {"pictures": Pictures(images, graph.image_size)} if out.suffix == ".html" else {}
        tree.write(out, **seen)
    if options.quiet:
        return
    modes = tree.modes[0].children
    called = tree.nx.graph["told"]
    for doubt in tree.doubts:
        print(f"{doubt}\n")
    print(
        f"{counted(len(modes), 'decision mode')} from {counted(tree.positive.sum(), 'image')} of "
        f"{tree.fitted.class_title}"
    )
    print(tree.nx.graph["adds_up"])
    for number in modes:
        parts = list(tree.parts_of(number).items())[:_SHOWN]
        told = ", ".join(f"{called[node]} {value:+.2f}" for node, value in parts)
        print(f"  {number}: {counted(len(tree.modes[number].images), 'image')} by {told}")
    print("\nhow well modes stand for the network, by depth, on the same images:")
    rows = tree.measure(tree.fitted, tree.positive)
    print_table(
        [name.replace("_", " ") for name in rows[0]._fields],
        [[f"{v:.3f}" if isinstance(v, float) else v for v in row] for row in rows],
    )
    print(f"\nwritten: {', '.join(options.out)}")
