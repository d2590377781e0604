"""What mining makes of some creatures, in a few numbers: any constant that matters moves them."""

import numpy as np

import explgraph
from explgraph import creatures


def fingerprint():
    """Mine 60 creatures, parse 20 others, and give what comes out, by name."""
    network = creatures.network()
    graph = explgraph.mine(network, creatures.draw(60, seed=0).tensor(), creatures.LAYERS)
    parse = graph.parse(network, creatures.draw(20, seed=1).tensor())
    found = {"edges": graph.nx.number_of_edges(), "parts": len(graph.parts)}
    for layer, nodes, _ in graph.by_layer():
        for name in ("reliability", "follows", "sigma", "support", "energy"):
            found[f"{layer.name}, {name}"] = np.mean([values[name] for values in nodes])
        found[f"{layer.name}, nodes"] = len(nodes)
        found[f"{layer.name}, following"] = graph.nx.graph["config"]["following"][layer.name]
        found[f"{layer.name}, decoys"] = graph.fitted[f"layer/{layer.index}/decoys"].sum()
    for name in ("dx", "dy", "sigma", "consistency", "coactivation"):
        found[f"edges, {name}"] = np.mean([np.abs(a[name]) for *_, a in graph.nx.edges(data=True)])
    for name in ("reliability", "support", "offset", "slope"):
        records = graph.nx.graph["parts"]
        found[f"parts, {name}"] = np.median([record[name] for record in records])
    found["parts, weight"] = sum(a["part_weight"] for a in graph.nx.nodes.values())
    found["parts, joined"] = sum(len(part.nodes) for part in graph.parts)
    found["parsed, score"] = parse.scores.mean()
    found["parsed, x"], found["parsed, y"] = parse.positions.std((0, 1))
    found["parsed, own"] = np.abs(parse.positions - parse.expected).mean()
    found["parsed parts, presence"] = parse.parts.presence.mean()
    found["parsed parts, radius"] = parse.parts.radius.mean()
    return {name: float(value) for name, value in found.items()}
