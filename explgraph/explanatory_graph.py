"""The explanatory graph as users have it: what it holds, and what can be done with it.

Apart from `graph`, which knows neither images nor other programs' files: parsing and views look at
graphs, and a graph parses and writes itself by them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from torch import nn

from explgraph import parsing
from explgraph.and_or_graph import AndOrGraph
from explgraph.circuits.circuit import Circuit
from explgraph.circuits.finding import find_circuit
from explgraph.circuits.trials import Measure
from explgraph.errors import ExplgraphError
from explgraph.explaining.by_part import By
from explgraph.explaining.explain import explain
from explgraph.explaining.explanation import Explanation
from explgraph.explaining.replaced import Replacement
from explgraph.graph import file
from explgraph.graph.graph import Graph
from explgraph.images.batches import AnyImages
from explgraph.images.folder import ImageFolder
from explgraph.images.single import AnyImage
from explgraph.images.whereabouts import whereabouts
from explgraph.naming.encoders import Encoder
from explgraph.naming.part_names import PartNames, name_parts
from explgraph.network.outputs import Outputs
from explgraph.parse_store import ParseStore, parse_to_store
from explgraph.parsed import Parse, parts_in
from explgraph.parsed_parts import ParsedParts
from explgraph.paths import checked_path
from explgraph.progress import Shown
from explgraph.views import notebook
from explgraph.views.pictures import Drawable
from explgraph.views.remembered import opened, remembered_for

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ExplanatoryGraph", "load"]


class ExplanatoryGraph(Graph):
    """Part patterns of a network's filters, and which of them go together.

    What `explgraph.mine` gives and `explgraph.load` opens.

    Attributes
    ----------
    nx : networkx.DiGraph
        Nodes ``"<layer>/<filter>/<pattern>"`` and edges from the upper layer's node to the lower
        layer's, with plain scalars as attributes. Attributes of the whole graph are
        ``format_version``, ``image_size`` [H, W], ``layers``, ``n_images``, ``config``, ``seed``,
        ``versions``, ``model_fingerprint`` and ``preprocessing``. You may add attributes to nodes
        and edges: str, int, float or bool, of one type under one name.
    fitted : dict of str to array
        The parameters that parsing needs.
    top_images : dict of str to list
        For a node id ``[image name, x, y, score]`` of the images where it scored best, best
        first; px.
    whereabouts : dict or None
        Where those images are, for pages and drawings; see `with_images`.
    grown : explgraph.graph.and_or.AndOr or None
        How named parts are located; see `and_or`.
    """

    @property
    def and_or(self) -> AndOrGraph | None:
        """How named parts are located: what `with_and_or` kept of a localizer, None without."""
        return None if self.grown is None else AndOrGraph(self, self.grown)

    def with_and_or(self, and_or: AndOrGraph | None) -> ExplanatoryGraph:
        """Keep how named parts are located (`Localizer.and_or`): gives a new graph.

        The graph's file (`save`), drawings and pages have it then. None takes it away.

        Raises
        ------
        ExplgraphError
            If it is none, or no node of this graph votes in it, or the images had another size.
        """
        graph = self.restricted(self.nx)
        graph.grown = None
        if and_or is None:
            return graph
        if not isinstance(and_or, AndOrGraph):
            raise ExplgraphError(
                f"and_or must be an AndOrGraph, got {type(and_or).__name__}; give "
                "localizer.and_or(parse), or None to take it away"
            )
        graph.grown = and_or.grown.restricted(self.nx)
        if graph.grown is None or and_or.graph.image_size != self.image_size:
            raise ExplgraphError(
                f"and_or is of nodes such as {and_or.grown.nodes[0]!r}, in images of "
                f"{and_or.graph.image_size} px; this graph has none of them, or is of other images"
            )
        return graph

    def _folder(self, images: Any) -> Any:
        """Open the folder that a path names, made ready as the mined images were."""
        return opened(self, images)

    def with_images(self, images: ImageFolder | str | os.PathLike[str] | None) -> ExplanatoryGraph:
        """Remember where the images are that nodes were seen best in: gives a new graph.

        Pages and drawings take their pictures from there. Mining from an `ImageFolder` remembers it
        by itself; a graph that was mined from a tensor of the same photographs, or whose images
        have another place, is told it here. The graph's file (`save`) holds the folder's path and
        the files' names; None takes them out, before the file is given away.

        Parameters
        ----------
        images : ImageFolder, path of a folder, or None
            With the images of ``top_images``, by name, made ready as they were for mining.

        Raises
        ------
        ExplgraphError
            If the folder has none of the images, or they have another size.
        """
        record = None
        images = self._folder(images)
        if not isinstance(images, ImageFolder | None):
            raise ExplgraphError(
                f"images must be an ImageFolder or a folder's path, got {type(images).__name__}; "
                "None forgets them"
            )
        if images is not None:
            if images.size != self.image_size:
                raise ExplgraphError(
                    f"images are of {images.size} px, the graph was mined at {self.image_size}"
                )
            names = {name for seen in self.top_images.values() for name, *_ in seen}
            record = whereabouts(images, names)
            if not record["photographs"]:
                raise ExplgraphError(
                    f"{str(images.path)!r} has none of the images that the graph was mined from"
                    + (f", such as {min(names)!r}" if names else "")
                )
        graph = self.restricted(self.nx)
        graph.whereabouts = record
        return graph

    def with_weights(self, model: nn.Module) -> ExplanatoryGraph:
        """Take a network that was trained further for the one that was mined: gives a new graph.

        The same nodes and parts, which `explain`, `find_bias` and all else then look for in the
        model as it is now, without being refused or warned. Whether they still sit at what they sat
        at isn't checked: that they do is likely after some hundred steps, and can be measured with
        marks (`explgraph.evaluation.metrics.tracking`). Mining anew is always right.

        Parameters
        ----------
        model : torch.nn.Module
            With the layers that were mined. It isn't kept.

        Raises
        ------
        ExplgraphError
            If the model lacks one of the layers.

        Examples
        --------
        >>> trained = graph.with_weights(model)  # doctest: +SKIP
        >>> trained.explain(model, image, "dragon")  # doctest: +SKIP
        """
        return parsing.with_weights(self, model)

    @overload
    def parse(
        self,
        model: nn.Module,
        images: AnyImages,
        *,
        out: None = None,
        objects: int = 1,
        batch_size: int = 32,
        device: str = "auto",
        progress: Shown = None,
    ) -> Parse: ...
    @overload
    def parse(
        self,
        model: nn.Module,
        images: AnyImages,
        *,
        out: str | os.PathLike[str],
        objects: int = 1,
        batch_size: int = 32,
        device: str = "auto",
        progress: Shown = None,
    ) -> ParseStore: ...
    def parse(
        self,
        model: nn.Module,
        images: AnyImages,
        *,
        out: str | os.PathLike[str] | None = None,
        objects: int = 1,
        batch_size: int = 32,
        device: str = "auto",
        progress: Shown = None,
    ) -> Parse | ParseStore:
        """Find every node in images.

        Parameters
        ----------
        model : torch.nn.Module
            The network that was mined, in evaluation mode.
        images : path of a folder, ImageFolder, (N, C, H, W) tensor, Dataset or DataLoader
            Of the size that was mined; folders and lists of photographs are made ready as the
            mined images were (`explgraph.images.taken`).
        out : path or URL, optional
            Where the parse is written block by block, for any number of images. What was
            interrupted goes on where it was. In memory by default.
        objects : int
            How many objects an image may show. 1 reads one pose off every image. Otherwise up to
            so many are looked for, each with a pose of its own: a row of the parse for each, the
            best explained first, named ``name#0``, ``name#1``, ... where there are several
            (``parse.image_names`` and ``parse.frames`` say where it is). The network is run over
            some fifty pieces of every image.
        batch_size : int
        device : str
            Where the model runs and nodes are looked for; "auto" is the GPU if there is one.
        progress : bool or None
            Show a bar: by default in notebooks alone, if True on a terminal too.

        Returns
        -------
        Parse or ParseStore
            A `ParseStore` if `out` is given.

        Raises
        ------
        ExplgraphError
            If the model lacks a layer or its shape differs, the images have another size, or what
            is at `out` is of something else.

        Warns
        -----
        ExplgraphWarning
            If the weights are not those that were mined, the poses of the mined images told
            little, or one pose does not hold in many of these images (``parse.one_pose_fails``).
        """
        if out is None:
            return parsing.parse(
                model, self, images,
                objects=objects, batch_size=batch_size, device=device, progress=progress,
            )  # fmt: skip
        return parse_to_store(
            model, self, images, out,
            objects=objects, batch_size=batch_size, device=device, progress=progress,
        )  # fmt: skip

    def parts_in(self, parse: Parse) -> ParsedParts:
        """Give every part's place, presence and radius: see `explgraph.parsed.parts_in`."""
        return parts_in(self, parse)

    def explain(
        self,
        model: nn.Module,
        image: AnyImage,
        target: int | str | None = None,
        *,
        layer: str | None = None,
        classes: Sequence[str] | None = None,
        images: ImageFolder | str | os.PathLike[str] | None = None,
        seed: int = 0,
        outputs: Outputs | None = None,
        device: str = "auto",
    ) -> Explanation:
        """Say which parts carried a class's score in an image, how much, and where.

        Parameters
        ----------
        model : torch.nn.Module
            The network that was mined, in evaluation mode.
        image : path, PIL image, (H, W, 3) uint8 colours, (C, H, W) tensor, ... that holds one image
            Tensors are normalised; files and PIL images are made ready as the mined images were.
            A text that names an image of `images` is that image.
        target : int or str, optional
            The class, by its number in the model's output or by name; by default the one of the
            highest score.
        layer : str, optional
            Whose nodes the parts' contributions are of; by default the one nearest to the output
            in which parts have nodes. What all layers' parts explain is told beside it.
        classes : sequence of str, optional
            Names, one for each of the model's outputs. By default those that the model knows
            (``model.class_names``, ``model.classes`` or ``model.config.id2label``), if any.
        images : ImageFolder or path of a folder, optional
            Where patches that show each part elsewhere are cut from: the images that were mined.
            By default those that the graph remembers (`with_images`), if any.
        seed : int
            Of what is taken away at random, for comparison.
        outputs : callable, optional
            Takes what the model gives, gives scores of (images, classes), where it gives anything
            else than these (`explgraph.network.outputs`).
        device : str
            Where the model runs.

        Returns
        -------
        Explanation
            Contributions in units of the class's score as the model gives it (a logit, as a
            rule); with what is unexplained they sum to what the layer carries of the score.

        Raises
        ------
        ExplgraphError
            If the model isn't the one that was mined or is in training mode, there isn't one score
            per class, there is no such class, layer or image, or the graph has no parts.

        Warns
        -----
        ExplgraphWarning
            If the parts explain little of the score, none speaks for the class, or taking the
            first ones away changes it no more than taking any; see ``Explanation.doubts``.
        """
        return explain(
            model, self, image, target,
            layer=layer, classes=classes, images=self._folder(images), seed=seed,
            outputs=outputs, device=device,
        )  # fmt: skip

    def circuit(
        self,
        model: nn.Module,
        images: AnyImages,
        classes: int | str | Sequence[int | str],
        *,
        keep: float = 0.9,
        by: By = "part",
        layers: str | Sequence[str] | None = None,
        candidates: Iterable[str] | None = None,
        replacement: Replacement = "mean",
        reference: AnyImages | None = None,
        measure: Measure = "score",
        labels: Sequence[int | str] | None = None,
        runs: int = 400,
        seed: int = 0,
        outputs: Outputs | None = None,
        batch_size: int = 32,
        device: str = "auto",
        progress: Shown = None,
    ) -> Circuit[ExplanatoryGraph]:
        """Find the fewest parts or nodes that keep a share of a class's score.

        All else in their layers is replaced. Half of the images find the circuit, the other half
        measures it; how: `explgraph.circuits.finding`.

        Parameters
        ----------
        model : torch.nn.Module
            The network that was mined, in evaluation mode.
        images : path of a folder, ImageFolder, (N, C, H, W) tensor, Dataset or DataLoader
            That show what is asked about, 20 at the least, some hundreds if you can.
        classes : int, str or sequence of these
            Numbers in the model's output, or names where the model says them. Of several classes
            each image counts for the one that is highest in it, or for its label.
        keep : float
            Above 0, at most 1: the share of what the layers carry.
        by : "part" or "node"
            Of what the circuit is made.
        layers : str or sequence of str, optional
            Where all else is replaced; by default the layer nearest to the output in which
            candidates have nodes.
        candidates : iterable of str, optional
            Parts' or nodes' ids or names to choose among; by default all that lie in `layers`.
        replacement : "mean", "resampled" or "zero"
            What stands in for what is replaced: the mean over images, unit by unit; what another
            image has there, chosen by `seed` and the image's content; no activation.
        reference : images, optional
            Whose activation stands in; by default those that the circuit is found on. Where all of
            `images` show the same class, their mean shows it, too: give others.
        measure : "score" or "accuracy"
            What is to be kept: the class's score as the model gives it, or the share of images in
            which it is the highest of all.
        labels : sequence of int or str, optional
            Each image's class, among `classes`.
        runs : int
            At most so many sets of candidates are tried in the search; more, if the prefixes of
            the order alone are more. Each is a run over half of the images, from the lowest of
            `layers` upwards.
        seed : int
            Of the halves, of what stands in, and of the resampling of images.
        outputs : callable, optional
            Takes what the model gives, gives scores of (images, classes), where it gives anything
            else than these (`explgraph.network.outputs`).
        batch_size : int
        device : str
            Where the model runs.
        progress : bool or None
            Show a bar: by default in notebooks alone, if True on a terminal too.

        Returns
        -------
        Circuit
            With its graph, ``circuit.graph``, and how far it stands for the network.

        Raises
        ------
        ExplgraphError
            If the model isn't the one that was mined or is in training mode; there is no such
            class, part, node or layer; the images are too few, show a class that is asked about
            nowhere, or its score is no higher than with everything in the layers replaced.

        Warns
        -----
        ExplgraphWarning
            If less than `keep` can be kept, is kept on the other half, or as many candidates at
            random keep as much; see ``Circuit.doubts``.
        """
        return find_circuit(
            model, self, self._folder(images), classes,
            keep=keep, by=by, layers=layers, candidates=candidates, replacement=replacement,
            reference=self._folder(reference), measure=measure, labels=labels, runs=runs, seed=seed,
            outputs=outputs, batch_size=batch_size, device=device, progress=progress,
        )  # fmt: skip

    def visualize(
        self,
        model: nn.Module,
        images: AnyImages,
        folder: str | os.PathLike[str],
        what: str | Sequence[str] | None = None,
        *,
        how: Sequence[str] = ("exemplars", "mask", "maximise", "invert"),
        count: int = 4,
        steps: int | None = None,
        seed: int = 0,
        batch_size: int = 32,
        device: str = "auto",
        progress: Shown = None,
    ) -> Path:
        """Draw what nodes and parts answer to into a folder, with a page to look at.

        Parameters
        ----------
        model : torch.nn.Module
            The network that was mined, in evaluation mode.
        images : path of a folder, ImageFolder, or list of PIL images
        folder : path
            For ``index.html`` and its pictures.
        what : str or sequence of str, optional
            Nodes' ids, parts' ids or names; the three most reliable parts by default.
        how : sequence of str
            ``"exemplars"``: the patches where it was found best; ``"mask"``: heat and outline of
            what it answers to; ``"maximise"``: the image it answers to most; ``"invert"``: images
            that show the same nodes as the first ones given.
        count : int
            Images of each row.
        steps : int, optional
            Of ``"maximise"`` (128) and ``"invert"`` (150).
        seed : int
            Of ``"maximise"``.
        batch_size : int
        device : str
        progress : bool or None

        Returns
        -------
        Path
            Of the page.

        Raises
        ------
        ExplgraphError
            If there is no such node, part or way, none of the images shows one, they can't be
            drawn or don't fit the graph, or matplotlib isn't installed.
        """
        from explgraph.views.visualize import visualize  # with matplotlib

        return visualize(
            model, self, images, folder, what,
            how=how, count=count, steps=steps, seed=seed, batch_size=batch_size, device=device,
            progress=progress,
        )  # fmt: skip

    def name_parts(
        self,
        encoder: Encoder,
        vocabulary: Sequence[str],
        images: Drawable | str | os.PathLike[str],
        *,
        parse: Parse | None = None,
        side: float | None = None,
        fdr: float = 0.05,
        permutations: int = 999,
        overwrite: bool = False,
        batch_size: int = 64,
        seed: int = 0,
        progress: Shown = None,
    ) -> tuple[ExplanatoryGraph, PartNames]:
        """Name the parts by your words, with an image-text encoder such as CLIP.

        A part gets the word that suits its best patches most, compared with other patches of the
        same images, and only if the word beats chance: see `explgraph.naming.part_names`. All other
        parts keep the name that they have, or none. Several parts may get one word: look whether
        they are one part in truth (`merge_parts`).

        Parameters
        ----------
        encoder : Encoder
            Any object with ``encode_images(list of n PIL images) -> (n, d)`` and
            ``encode_texts(list of m str) -> (m, d)``, such as
            `explgraph.naming.encoders.OpenClip`.
        vocabulary : sequence of str
            Words or phrases. They compete: give all that parts may be, and some that none is.
        images : ImageFolder, folder, (N, H, W, 3) uint8 colours or list of PIL images
            That the graph was mined from, or that `parse` is of.
        parse : Parse, optional
            Of `images`; without it, patches are those of `Part.exemplars`.
        side : float, optional
            Of a patch, px; 0.4 of the image's shorter side by default.
        fdr : float
            Share of the names given that may be by chance.
        permutations : int
            By which chance is measured.
        overwrite : bool
            Whether parts that have a name get another.
        batch_size : int
            Patches at a time.
        seed : int
            Of the places beside the parts and of the permutations.
        progress : bool or None
            Show a bar: by default in notebooks alone, if True on a terminal too.

        Returns
        -------
        graph : ExplanatoryGraph
            A new one, with the names.
        names : PartNames
            For every part the best word, its score and p-value, and whether it became the name.

        Raises
        ------
        ExplgraphError
            If the graph has no parts, none is seen in the images, the vocabulary is empty, or the
            encoder gives anything but a row of finite numbers for each image and word.
        """
        return name_parts(
            self, encoder, vocabulary, self._folder(images),
            parse=parse, side=side, fdr=fdr, permutations=permutations, overwrite=overwrite,
            batch_size=batch_size, seed=seed, progress=progress,
        )  # fmt: skip

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the whole graph to one file, which `explgraph.load` opens.

        Raises
        ------
        ExplgraphError
            If the graph isn't valid any more or the file can't be written.
        """
        file.write(self, path)

    def write(
        self,
        path: str | os.PathLike[str],
        *,
        max_nodes: int | None = None,
        pictures: Mapping[str, str | Path] | None = None,
        time_limit: float | None = None,
        images: Drawable | str | os.PathLike[str] | None = None,
        parse: Parse | None = None,
        strip: int | None = None,
    ) -> None:
        """Write the graph in the format of the path's suffix, whole or not at all.

        Parameters
        ----------
        path : path
            ``.dot``/``.gv`` (Graphviz), ``.svg``, ``.png``, ``.pdf`` (drawings), ``.graphml``,
            ``.gexf`` (Gephi), ``.gml``, ``.json`` (node-link), ``.cyjs`` (Cytoscape), ``.html``
            (the explorer page), or ``.explgraph``, as `save`.
        max_nodes : int, optional
            At most so many nodes, of every part and layer the most telling. Drawings hold 60
            unless told otherwise, all other files everything; not for .explgraph.
        pictures : mapping of str to path, optional
            Node id to picture file; for .dot, and for drawings by Graphviz.
        time_limit : float, optional
            Seconds that Graphviz may take; for drawings.
        images : ImageFolder, folder, (N, H, W, 3) uint8 colours or list of PIL images, optional
            Where patches are cut from: the images that were mined, or others with their `parse`;
            for .html and drawings. By default those that the graph remembers (`with_images`);
            without any, pages have no pictures and drawings show discs.
        parse : Parse, optional
            Where all nodes are in `images`. Without it the places are those that the graph
            remembers (``top_images``); for .html and drawings.
        strip : int, optional
            At most so many images are put into the page whole (60 by default); for .html.

        Raises
        ------
        ExplgraphError
            If the suffix isn't known or has no such option, the graph isn't valid, the file can't
            be written, or a drawing can't be made.

        Warns
        -----
        ExplgraphWarning
            If there are no pictures since the images that the graph remembers are gone, or others
            than they were.
        """
        from explgraph.views import export  # with what draws, which mining needn't wait for

        given: dict[str, Any] = {
            "max_nodes": max_nodes, "pictures": pictures, "time_limit": time_limit,
            "images": self._folder(images), "parse": parse, "strip": strip,
        }  # fmt: skip
        options = {name: value for name, value in given.items() if value is not None}
        if checked_path(path).suffix.lower() != ".explgraph":
            export.write(self, path, **options)
        elif options:
            raise ExplgraphError(
                f"a .explgraph file holds the whole graph and takes no {min(options)!r}; prune the "
                "graph first (in the shell: --top), or write another file"
            )
        else:
            self.save(path)

    def draw(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        what: str = "parts",
        images: Drawable | str | os.PathLike[str] | None = None,
        parse: Parse | None = None,
        width: float = 174.0,
        dpi: int = 300,
        most: int | None = None,
        filter: str | None = None,  # noqa: A002
    ) -> Figure:
        """Draw the graph for a paper or a talk, with patches of images.

        In .svg and .pdf files text stays text, and no letter is smaller than 6 pt in print.

        Parameters
        ----------
        path : path, optional
            File to write: ``.svg``, ``.pdf``, ``.png`` or another that matplotlib knows.
        what : {"parts", "nodes", "filter", "layers", "and-or"}
            The graph of the parts, each by four patches; the most telling node of each part and
            layer, with links; one filter, taken apart into its nodes; what each layer adds; or how
            named parts are located (`and_or`).
        images : ImageFolder, folder, (N, H, W, 3) uint8 colours or list of PIL images, optional
            Where patches are cut from: the images that were mined, or others with their `parse`.
            By default those that the graph remembers (`with_images`); without any, plain squares
            are drawn.
        parse : Parse, optional
            Of `images`, by this graph.
        width : float
            mm in print: 84 is one column of a journal, 174 two.
        dpi : int
            Pixels per inch of patches, and of a .png.
        most : int, optional
            Parts, nodes, nodes of the filter, patches of each layer, or nodes of each template, at
            most.
        filter : str, optional
            ``"<layer>/<number>"``; by default the one whose nodes do the most different things.

        Returns
        -------
        matplotlib.figure.Figure
            Its one axes count mm.

        Raises
        ------
        ExplgraphError
            If matplotlib isn't installed, an argument is out of range, the graph has no parts, no
            such filter, or keeps nothing of how parts are located, or the images and the parse
            don't fit it.

        Warns
        -----
        ExplgraphWarning
            If there are no pictures since the images that the graph remembers are gone, or others
            than they were.
        """
        from explgraph.views.draw import draw  # with matplotlib

        if path is not None:
            checked_path(path)
        shown: Drawable | None = self._folder(images)
        if shown is None and parse is None:
            shown = remembered_for(self, path or "the drawing")
        return draw(
            self, what, images=shown, parse=parse, width=width, dpi=dpi, most=most, filter=filter,
            path=path,
        )  # fmt: skip

    def write_parts(self, path: str | os.PathLike[str]) -> None:
        """Write the graph of the parts (`part_graph`), whole or not at all.

        Parameters
        ----------
        path : path
            ``.graphml``, ``.gexf`` (Gephi), ``.gml``, ``.json`` (node-link), ``.cyjs``
            (Cytoscape), or ``.csv``: a row for each part, without what joins them.

        Raises
        ------
        ExplgraphError
            If the suffix isn't known, the graph isn't valid, has no parts or lacks the parameters
            of mining, or the file can't be written.
        """
        from explgraph.views import export  # with what draws, which mining needn't wait for

        export.write_parts(self, path)

    def _repr_html_(self) -> str:
        """Show the graph in a notebook."""
        return notebook.graph_html(self)


def load(path: str | os.PathLike[str]) -> ExplanatoryGraph:
    """Open a graph that `ExplanatoryGraph.save` wrote.

    Raises
    ------
    ExplgraphError
        If the file is missing, a folder, empty, truncated or damaged, no explanatory graph, or
        of a version that this explgraph doesn't read.
    """
    return file.read(path, ExplanatoryGraph)
