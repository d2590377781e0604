"""And-Or graphs of random numbers, for tests of what keeps, writes and draws them."""

from __future__ import annotations

import numpy as np

from explgraph.graph.and_or import AndOr, AndOrPart, AndOrTemplate, Shot, Voter


def grown(graph, names=("head", "tail"), *, templates=(2, 1), voters=9, images=("a.png",), seed=0):
    """Parts of these names, of so many templates each (in turn); marks are in `images`, in turn."""
    rng = np.random.default_rng(seed)
    height, width = graph.image_size
    ids = list(graph.node_ids)

    def template(number, count):
        chosen = rng.permutation(len(ids))[:voters]
        share = rng.dirichlet(np.ones(len(chosen)))
        return AndOrTemplate(
            1 / count,
            tuple(
                Shot(image, *(rng.random(2) * [width, height]).tolist(), float(rng.random()))
                for image in list(images)[number::count] or images[:1]
            ),
            tuple(
                Voter(
                    ids[v],
                    *rng.normal(0, 0.1 * width, 2).tolist(),
                    *rng.uniform(1, 9, 1).tolist(),
                    float(part),
                    float(rng.random()),
                )
                for v, part in zip(chosen, share, strict=True)
            ),
        )

    return AndOr(
        60,
        tuple(
            AndOrPart(
                name,
                float(rng.uniform(2, 20)),
                None if k % 2 else 0.5,
                tuple(
                    template(t, templates[k % len(templates)])
                    for t in range(templates[k % len(templates)])
                ),
            )
            for k, name in enumerate(names)
        ),
    )
