"""Creatures in files, a graph of them, a teacher's server in a thread: for tests of the page."""

import threading
import warnings
from contextlib import contextmanager

import numpy as np
from PIL import Image

import explgraph
from explgraph import ExplgraphWarning, creatures
from explgraph.teaching.server import serving
from explgraph.teaching.teacher import Teacher

SIDE = 112  # px of the network's images
FILES = 300, 224  # px of the photographs, width and height: wider than the network sees them
READY = {"size": creatures.SIZE, "mean": creatures.MEAN, "std": creatures.STD}


class World:
    """Photographs larger and wider than the network sees them, their graph and parse."""

    def __init__(self, folder, n=48):
        self.folder = folder
        self.drawn = creatures.draw(n, seed=7, size=2 * SIDE)
        self.names = [f"{i:02}.png" for i in range(n)]
        (folder / "images").mkdir()
        for name, colours in zip(self.names, self.drawn.images, strict=True):
            Image.fromarray(colours).resize(FILES).save(folder / "images" / name)
        self.images = explgraph.ImageFolder(folder / "images", **READY)
        self.graph_file = folder / "graph.explgraph"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExplgraphWarning)
            self.graph = explgraph.mine(creatures.network(), self.images, ["stage4"], seed=0)
            self.parse = self.graph.parse(creatures.network(), self.images)
        self.graph.save(self.graph_file)

    def place(self, part, image):
        """Where a part is, px of the network's image; None where it can't be seen."""
        i = self.names.index(image)
        if not self.drawn.visible[part][i]:
            return None
        return tuple((np.asarray(self.drawn.parts[part][i]) / 2).tolist())

    def teacher(self, parts=("eye",), out=None, **options):
        return Teacher(self.graph, self.parse, parts, images=self.images, out=out, **options)


@contextmanager
def served(teacher, **options):
    """A server that answers, in a thread; its address."""
    with serving(teacher, **options) as server:
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        try:
            yield server.address.url
        finally:
            server.stop()
            thread.join()
    teacher.close()
