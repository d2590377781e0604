"""Draws ``docs/pictures/and_or.png``: how the chest and the horn of creatures are located.

    python benchmarks/and_or_picture.py [--out docs/pictures/and_or.png]

Everything in it is drawn and mined anew, in seconds on a CPU. 48 of 200 creatures are marked, those
that `Localizer.suggest` names. It also says how the chest's templates, which were found without
being told, go with the side that creatures face.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from explgraph import Localizer, creatures, mine
from explgraph.evaluation.landmarks import from_creatures

DRAWN, MARKED = 200, 48
PARTS = ("chest", "horn")
NODES = 6  # of a template


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/pictures/and_or.png"))
    options = parser.parse_args()
    model = creatures.network()
    drawn = creatures.draw(DRAWN, seed=1)
    graph = mine(model, drawn.tensor(), creatures.LAYERS, seed=0)
    parse = graph.parse(model, drawn.tensor())
    localizer = Localizer(graph)
    marked = np.isin(np.arange(DRAWN), localizer.suggest(parse, MARKED))
    truth = from_creatures(drawn).parts
    marks = {part: np.where(marked[:, None], truth[part], np.nan) for part in PARTS}
    hornless = {"horn": marked & ~drawn.attributes["horns"]}
    and_or = localizer.fit(parse, marks, absent=hornless).and_or(parse)
    print("\n".join(and_or.told))
    left = drawn.parts["snout"][:, 0] < drawn.parts["tail_tip"][:, 0]
    faces = dict(zip(parse.names, left.tolist(), strict=True))
    for number, template in enumerate(and_or.parts[0].templates, 1):
        facing = np.mean([faces[shot.image] for shot in template.shots])
        print(f"chest, template {number}: {facing:.0%} of its marked creatures face left")
    for told, those in (("left", left), ("right", ~left)):
        chest = localizer.and_or(graph.parse(model, drawn.tensor()[those])).parts[0]
        speak = ", ".join(f"{template.share:.0%}" for template in chest.templates)
        print(f"of creatures that face {told}, they speak in {speak}")
    and_or.draw(options.out, images=drawn.images, parse=parse, width=140, dpi=150, most=NODES)
    print(f"written: {options.out}")


if __name__ == "__main__":
    main()
