"""Memory of networks as their runtime executes them."""

from __future__ import annotations

import numpy as np
import pytest
from estimator.live.synthetic import chain, chain_graph
from estimator.live.test_additive import random_graph
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper

from lanefit.estimator.live.arena import live_memory
from lanefit.estimator.live.ort_graph import ort_graph

MAP = 4 * 16 * 8 * 8


def model_of(nodes: list[tuple[str, list[str], str]], shape: list[int]) -> ModelProto:
    made = [helper.make_node(kind, inputs, [output], name=output) for kind, inputs, output in nodes]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", nodes[-1][2])]
    graph = helper.make_graph(made, "graph", ports[:1], ports[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_a_chain_needs_its_input_and_two_neighbouring_maps() -> None:
    memory = live_memory(chain_graph([(16, 16, 3, 8)] * 5))
    assert memory.arena_bytes == memory.live_bytes == 3 * MAP
    assert memory.weight_bytes == 5 * 4 * 16 * 16 * 9


def test_element_wise_operators_write_over_what_nobody_reads_any_more() -> None:
    nodes = [("Sin", ["x"], "a"), ("Sigmoid", ["a"], "b"), ("Tanh", ["b"], "c"), ("Relu", ["c"], "d")]
    assert live_memory(ort_graph(model_of(nodes, [1, 16, 8, 8]), level="none")).arena_bytes == 2 * MAP


def test_an_operand_that_is_read_again_is_kept() -> None:
    nodes = [("Sin", ["x"], "a"), ("Tanh", ["a"], "b"), ("Add", ["a", "b"], "c")]
    assert live_memory(ort_graph(model_of(nodes, [1, 16, 8, 8]), level="none")).arena_bytes == 3 * MAP


def test_joined_operators_and_blocked_layouts_are_those_of_the_runtime() -> None:
    model = chain([(16, 16, 3, 8)] * 3)
    memory = live_memory(ort_graph(model))
    assert memory.arena_bytes >= memory.live_bytes >= 2 * MAP
    assert memory.weight_bytes >= 3 * 4 * 16 * 16 * 9


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 15))
def test_no_arena_is_smaller_than_what_lives_at_once(seed: int, length: int) -> None:
    graph = random_graph(np.random.default_rng(seed), length)
    memory = live_memory(graph)
    assert memory.arena_bytes >= memory.live_bytes >= max(v.size_bytes for v in graph.values.values() if not v.constant)
    assert memory.traffic_bytes >= memory.weight_bytes


def test_views_need_no_memory_of_their_own() -> None:
    plain = live_memory(ort_graph(model_of([("Sin", ["x"], "a"), ("Cos", ["a"], "b")], [1, 16, 8, 8]), level="none"))
    viewed = model_of([("Sin", ["x"], "a"), ("Identity", ["a"], "v"), ("Cos", ["v"], "b")], [1, 16, 8, 8])
    assert live_memory(ort_graph(viewed, level="none")).arena_bytes == pytest.approx(plain.arena_bytes)
