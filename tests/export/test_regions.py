"""Regions are convex, ordered, and hold every engine operator once, on any graph."""

import numpy as np
import onnx
from export_examples import EveryOperator, QdqGraph, int8_model
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto

from lanefit.export.engines import reference_engine
from lanefit.export.importer import import_model
from lanefit.export.onnx_model import GraphIndex
from lanefit.export.regions import DOMAIN, depths, region_number
from lanefit.export.split_run import SplitModel, run_samples, session

Case = tuple[dict[int, set[int]], dict[int, str]]


@st.composite
def graphs(draw: st.DrawFn) -> Case:
    """Producers of each node of a random DAG, and a placement."""
    count = draw(st.integers(1, 12))
    producers = {n: draw(st.sets(st.integers(0, n - 1), max_size=3)) if n else set() for n in range(count)}
    return producers, {n: draw(st.sampled_from(["engine", "cpu"])) for n in range(count)}


def _reach(producers: dict[int, set[int]]) -> set[tuple[int, int]]:
    """Pairs (a, b) with a path from a to b."""
    reach: set[tuple[int, int]] = set()
    for node in sorted(producers):
        for p in producers[node]:
            reach |= {(p, node)} | {(a, node) for a, b in reach if b == p}
    return reach


@settings(max_examples=300)
@given(graphs())
def test_groups_of_one_placement_and_depth_are_convex(case: Case) -> None:
    producers, place = case
    depth = depths(sorted(producers), producers, place)
    reach = _reach(producers)
    for first, last in reach:
        if (depth[first], place[first]) == (depth[last], place[last]):
            between = [n for n in producers if (first, n) in reach and (n, last) in reach]
            assert all((depth[n], place[n]) == (depth[first], place[first]) for n in between)


@settings(max_examples=300)
@given(graphs())
def test_groups_depend_on_each_other_in_the_order_of_their_depth(case: Case) -> None:
    producers, place = case
    depth = depths(sorted(producers), producers, place)
    for node, sources in producers.items():
        assert all(depth[s] < depth[node] or (depth[s], place[s]) == (depth[node], place[node]) for s in sources)


def _random_model(rng: np.random.Generator) -> ModelProto:
    """A branching network of additions, activations and (on the CPU) sines over one map shape."""
    graph = QdqGraph((1, 2, 3, 3))
    tensors = [graph.pair("input", "x", 0.03, 0)]
    for number in range(int(rng.integers(2, 10))):
        op_type = str(rng.choice(["Add", "Relu", "Sin", "Tanh"]))
        inputs = [tensors[int(rng.integers(len(tensors)))] for _ in range(2 if op_type == "Add" else 1)]
        y = graph.op(op_type, f"n{number}", inputs)
        tensors.append(graph.pair(y, f"q{number}", 0.02 + 0.01 * number, number))
    model = graph.model(tensors[-1])
    for tensor in tensors[1:-1]:
        if rng.random() < 0.2:
            model.graph.output.append(onnx.helper.make_tensor_value_info(tensor, 1, None))
    return model


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_random_branching_models_keep_their_meaning_when_cut_into_regions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    imported = import_model(_random_model(rng))
    nodes = [node.name for region in imported.regions for node in region.graph.nodes]
    wanted = {p.node for p in imported.placements if p.where == "engine" and p.op_type in ("Add", "Relu")}
    assert len(nodes) == len(set(nodes))
    assert wanted <= set(nodes)
    x = rng.standard_normal((3, 2, 3, 3), np.float32) * 2
    split = SplitModel(imported.host, GraphIndex(imported.model).types)
    got = split(reference_engine(imported.regions), {"input": x})
    for name, value in run_samples(session(imported.model, exact=True), {"input": x}).items():
        assert np.abs(got[name] - value).max() <= 3 * 0.13, name  # a few steps of the coarsest scale


def test_the_host_model_has_one_node_for_each_region_and_no_weights() -> None:
    imported = import_model(int8_model(EveryOperator))
    numbers = [region_number(node) for node in imported.host.graph.node if node.domain == DOMAIN]
    assert numbers == [0]
    assert sum(len(t.raw_data) for t in imported.host.graph.initializer) < 100
