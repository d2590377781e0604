"""The line that says which parts there are, counted anew."""

from small_network import graph_of, network

from explgraph.views.parts_told import parts_told


def test_the_line_is_true_of_the_graph():
    graph = graph_of(network()).name_part("p2", "claw").reject_part("p1")
    nodes = list(graph.nx.nodes.values())
    reliable = [values for values in nodes if values["reliability"] > 0]
    share = round(100 * sum(values["part"] != "" for values in reliable) / len(reliable))
    sizes = {p: sum(values["part"] == p for values in nodes) for p in ("p2", "p3", "p7")}
    told = parts_told(graph)
    assert told.startswith(
        f"9 parts in 2 layers hold {share} % of the reliable nodes: "
        f"claw ({sizes['p2']} nodes), part 3 ({sizes['p3']} nodes), "
    )
    assert told.endswith("and 4 more; 9 stand still")  # the pose explains no node's movement
    assert all(values["follows"] < 0.1 for values in nodes if values["part"])

    one = graph.restricted(graph.part("p7").nodes)
    assert sizes["p7"] == 1
    assert parts_told(one) == (
        "1 part in 1 layer holds 100 % of the reliable nodes: part 7 (1 node); it stands still"
    )
    assert parts_told(one.reject_part("p7")).startswith("no parts: ")
