"""Graphs that must be the same but for rounding, which depends on how work is shared out."""

from numpy.testing import assert_allclose

PIXELS, SHARES = 0.01, 1e-4


def assert_alike(one, other, *, pixels=PIXELS, shares=SHARES):
    """The same nodes and edges; nodes of nearly the same reliability may have changed places."""
    assert set(one.node_ids) == set(other.node_ids)
    assert set(one.nx.edges) == set(other.nx.edges)
    mine, theirs = (dict(graph.nx.graph) for graph in (one, other))
    config, other_config = mine.pop("config"), theirs.pop("config")
    for part, other_part in zip(mine.pop("parts"), theirs.pop("parts"), strict=True):
        assert part.keys() == other_part.keys()
        for name, value in part.items():
            if isinstance(value, (float, dict)):
                numbers = (
                    x.values() if isinstance(x, dict) else [x] for x in (value, other_part[name])
                )
                assert_allclose(*map(list, numbers), rtol=0.02, atol=0.02, err_msg=name)
            else:
                assert value == other_part[name]
    assert mine == theirs
    assert config.keys() == other_config.keys()
    for name, value in config.items():
        if isinstance(value, dict):  # measured
            assert value.keys() == other_config[name].keys()
            for key, number in value.items():
                assert_allclose(number, other_config[name][key], atol=shares)
        else:
            assert value == other_config[name]
    tables = [(one.nx.nodes[v], other.nx.nodes[v]) for v in one.node_ids]
    tables += [(one.nx.edges[e], other.nx.edges[e]) for e in one.nx.edges]
    for mine, theirs in tables:
        assert mine.keys() == theirs.keys()
        for name, value in mine.items():
            if isinstance(value, float) and name != "support":
                atol = pixels if name in ("x", "y", "dx", "dy", "sigma") else shares
                assert_allclose(value, theirs[name], atol=atol, err_msg=name)
            elif name == "support":  # an image may be just there, or just not
                assert abs(value - theirs[name]) < 1.5 / one.nx.graph["n_images"]
            else:
                assert value == theirs[name]
    for node, seen in one.top_images.items():
        scores = [score for *_, score in seen]
        assert_allclose(scores, [score for *_, score in other.top_images[node]], atol=shares)
    assert one.fitted.keys() == other.fitted.keys()
    for name, values in one.fitted.items():
        assert values.dtype == other.fitted[name].dtype
        assert_allclose(values, other.fitted[name], atol=pixels, rtol=shares, err_msg=name)
