from __future__ import annotations

from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st
from operator_examples import MAP, add, conv, graph, relu

from lanefit.estimator.opgraph.graph import OperatorGraph, OperatorNode
from lanefit.estimator.opgraph.memory import DeviceMemory, device_memory
from lanefit.estimator.opgraph.operator import Kind, Operator

BYTES = 4 * prod(MAP)


def exact(built: OperatorGraph, *, in_place: bool = True) -> DeviceMemory:
    return device_memory(built, in_place=in_place, alignment_bytes=1)


def chain(length: int) -> OperatorGraph:
    names = ["x", *(f"n{i}" for i in range(length))]
    return graph(*((names[i + 1], conv(), (names[i],)) for i in range(length)))


@pytest.mark.parametrize("length", [1, 2, 3, 10])
def test_a_chain_of_convolutions_needs_two_maps_however_long_it_is(length: int) -> None:
    found = exact(chain(length))
    assert found.arena_bytes == found.live_bytes == 2 * BYTES
    assert found.weight_bytes == length * conv().weight_bytes


def test_a_residual_keeps_a_third_map_alive_until_it_is_added() -> None:
    built = graph(("a", conv(), ("x",)), ("b", conv(), ("a",)), ("c", conv(), ("b",)), ("d", add(), ("c", "a")))
    assert exact(built).arena_bytes == 3 * BYTES


def test_an_element_wise_operator_writes_over_an_operand_that_nobody_reads_any_more() -> None:
    built = graph(("a", conv(), ("x",)), ("b", relu(), ("a",)), ("c", conv(), ("b",)))
    still_read = graph(("a", conv(), ("x",)), ("b", relu(), ("a",)), ("c", add(), ("a", "b")))
    assert exact(built).arena_bytes == 2 * BYTES
    ending = graph(("p", conv(), ("x",)), ("a", conv(), ("p",)), ("b", relu(), ("a",)), outputs=("b", "p"))
    assert exact(ending).arena_bytes == 2 * BYTES
    assert exact(ending, in_place=False).arena_bytes == 3 * BYTES
    assert exact(still_read).arena_bytes == 2 * BYTES


def test_a_reshape_is_the_same_memory_and_constants_take_none() -> None:
    flat = (1, prod(MAP))
    built = graph(("a", conv(), ("x",)), ("b", Operator(Kind.RESHAPE, (MAP,), flat), ("a",)))
    assert exact(built).arena_bytes == 2 * BYTES
    known = graph(("a", Operator(Kind.CONSTANT, (), MAP), ()), ("b", add(), ("x", "a")))
    assert exact(known).arena_bytes == 2 * BYTES


def test_places_are_aligned() -> None:
    small = Operator(Kind.GLOBAL_POOL, (MAP,), (1, 8, 1, 1))
    built = graph(("a", small, ("x",)))
    assert device_memory(built).arena_bytes == BYTES + 64
    assert device_memory(built, alignment_bytes=1).arena_bytes == BYTES + 32


def test_a_quantised_graph_needs_a_quarter_beyond_its_float_input() -> None:
    entering = Operator(Kind.QUANTISE, (MAP,), MAP, dtype="int8")
    narrow = Operator(Kind.RELU, (MAP,), MAP, dtype="int8")
    built = graph(
        ("q", entering, ("x",)),
        ("a", narrow, ("q",)),
        ("b", Operator(Kind.MAX_POOL, (MAP,), MAP, conv().window, dtype="int8"), ("a",)),
    )
    assert exact(built).arena_bytes == BYTES + BYTES // 4


@st.composite
def graphs(draw: st.DrawFn) -> OperatorGraph:
    names, nodes = ["x"], []
    shapes: dict[str, tuple[int, ...]] = {"x": MAP}
    for number in range(draw(st.integers(1, 20))):
        source = draw(st.sampled_from(names[-5:]))
        if draw(st.booleans()):
            peers = [name for name in names if shapes[name] == shapes[source]]
            inputs = (source, draw(st.sampled_from(peers)))
            operator = add(shapes[source])
        else:
            target = (1, draw(st.integers(1, 16)), draw(st.integers(1, 16)), 16)
            operator, inputs = Operator("Unknown", (shapes[source],), target), (source,)
        names.append(f"n{number}")
        nodes.append(OperatorNode(names[-1], operator, inputs))
        shapes[names[-1]] = operator.output
    return OperatorGraph.of(nodes, {"x": MAP}, [names[-1]])


@given(graphs())
def test_an_arena_holds_the_busiest_moment_and_never_more_than_everything(built: OperatorGraph) -> None:
    found, apart = exact(built), exact(built, in_place=False)
    everything = BYTES + sum(operator.output_bytes for operator in built.operators)
    busiest = max(operator.output_bytes for operator in built.operators)
    assert busiest <= found.live_bytes <= found.arena_bytes <= everything
    assert found.live_bytes <= apart.live_bytes <= apart.arena_bytes <= everything


@given(graphs(), st.sampled_from([1, 64, 256]))
def test_alignment_only_adds(built: OperatorGraph, alignment: int) -> None:
    assert device_memory(built, alignment_bytes=alignment).live_bytes >= exact(built).live_bytes
    assert device_memory(built, alignment_bytes=alignment).arena_bytes % alignment == 0
