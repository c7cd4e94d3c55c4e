from __future__ import annotations

import pytest
from operator_examples import MAP, add, conv, graph, relu

from lanefit.common.errors import ModelError
from lanefit.estimator.opgraph.graph import OperatorGraph, OperatorNode


def residual(names: str = "abc") -> OperatorGraph:
    first, second, third = names
    return graph((first, conv(), ("x",)), (second, relu(), (first,)), (third, add(), (second, "x")))


def test_totals_are_sums_over_the_executed_operators() -> None:
    built = residual()
    assert built.macs == conv().macs
    assert built.weight_bytes == conv().weight_bytes
    assert built.traffic_bytes == sum(op.input_bytes + op.weight_bytes + op.output_bytes for op in built.operators)


def test_consumers_are_listed_for_sources_and_results() -> None:
    assert residual().consumers == {"x": ("a", "c"), "a": ("b",), "b": ("c",), "c": ()}
    assert residual().shape("x") == residual().shape("c") == MAP


def test_names_do_not_change_the_digest_but_wiring_does() -> None:
    rewired = graph(("a", conv(), ("x",)), ("b", relu(), ("x",)), ("c", add(), ("a", "b")))
    assert residual("abc").digest() == residual("pqr").digest() != rewired.digest()


def test_a_graph_survives_its_canonical_form() -> None:
    again = OperatorGraph.from_dict(residual().as_dict())
    assert again.digest() == residual().digest()
    assert [node.operator for node in again.nodes] == [node.operator for node in residual().nodes]


@pytest.mark.parametrize(
    ("nodes", "outputs", "message"),
    [
        ([("a", relu(), ("y",))], ("a",), "'y' as .* not there yet"),
        ([("a", relu(), ("x",)), ("a", relu(), ("x",))], ("a",), "two values"),
        ([("a", add(), ("x",))], ("a",), "1 inputs for 2 shapes"),
        ([("a", relu((1, 8, 3, 3)), ("x",))], ("a",), "which is"),
        ([("a", relu(), ("x",))], ("b",), "produced by nothing"),
    ],
)
def test_a_badly_wired_graph_is_refused(nodes: list, outputs: tuple[str, ...], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        OperatorGraph.of([OperatorNode(*node) for node in nodes], {"x": MAP}, outputs)


def test_a_document_that_is_no_graph_is_a_typed_error() -> None:
    for document in ({}, {"sources": 1}, {"sources": [[1]], "nodes": [[{}, [5]]], "outputs": []}):
        with pytest.raises(ModelError, match="not an operator"):
            OperatorGraph.from_dict(document)
