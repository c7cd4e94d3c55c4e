from __future__ import annotations

import numpy as np
from estimator.devices.network_samples import SHAPE, branching_graph, operator

from lanefit.estimator.devices.graph_arrays import count_graph
from lanefit.estimator.devices.graph_table import Vocabulary, graph_table
from lanefit.estimator.opgraph.graph import OperatorGraph, OperatorNode
from lanefit.estimator.opgraph.operator import Kind, Operator


def graph(*nodes: tuple[str, Operator, tuple[str, ...]], output: str) -> OperatorGraph:
    return OperatorGraph.of([OperatorNode(*node) for node in nodes], {"input": SHAPE}, [output])


def test_names_do_not_change_counts() -> None:
    for seed in range(20):
        assert count_graph(branching_graph(seed)) == count_graph(branching_graph(seed, prefix="other"))


def test_the_order_of_independent_branches_does_not_change_counts() -> None:
    a, b, joined = ("a", operator("conv1"), ("input",)), ("b", operator("pool"), ("input",)), operator("add")
    first = graph(a, b, ("sum", joined, ("a", "b")), output="sum")
    second = graph(b, a, ("sum", joined, ("b", "a")), output="sum")
    assert count_graph(first) == count_graph(second)


def test_operators_in_a_row_and_side_by_side_have_other_surroundings() -> None:
    conv, joined = operator("conv3"), operator("add")
    row = graph(("a", conv, ("input",)), ("b", conv, ("a",)), ("sum", joined, ("b", "input")), output="sum")
    side = graph(("a", conv, ("input",)), ("b", conv, ("input",)), ("sum", joined, ("a", "b")), output="sum")
    assert count_graph(row).operators == count_graph(side).operators
    assert count_graph(row).surroundings[1] != count_graph(side).surroundings[1]


def test_an_activation_belongs_to_its_reader_but_is_counted_as_an_operator() -> None:
    relu = Operator(Kind.RELU, (SHAPE,), SHAPE)
    plain = count_graph(graph(("b", operator("conv1"), ("input",)), output="b"))
    found = count_graph(graph(("a", relu, ("input",)), ("b", operator("conv1"), ("a",)), output="b"))
    assert found.operators[relu] == 1
    assert sum(found.surroundings[0].values()) == 1
    assert found.surroundings[0] != plain.surroundings[0]


def test_tables_keep_distances_between_known_graphs_and_count_what_is_strange() -> None:
    graphs = [count_graph(branching_graph(seed)) for seed in range(12)]
    table = graph_table(graphs, Vocabulary.of(graphs))
    for level, matrix in enumerate(table.surroundings):
        dense = matrix.toarray()
        for i in range(3):
            own, other = graphs[i].surroundings[level], graphs[i + 3].surroundings[level]
            labels = set(own) | set(other)
            expected = sum((own.get(label, 0) - other.get(label, 0)) ** 2 for label in labels)
            assert np.isclose(((dense[i] - dense[i + 3]) ** 2).sum(), expected)
        assert not table.strange[level].any()
    few = graph_table(graphs, Vocabulary.of(graphs[:2]))
    assert few.strange[1].max() > 0
    assert set(few.operators) >= {op for g in graphs for op in g.operators}


def test_vocabularies_come_back_from_their_json_form() -> None:
    vocabulary = Vocabulary.of([count_graph(branching_graph(seed)) for seed in range(5)])
    assert Vocabulary.from_dict(vocabulary.as_dict()) == vocabulary
