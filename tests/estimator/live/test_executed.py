from __future__ import annotations

import numpy as np
import pytest
from estimator.live.synthetic import chain, chain_graph

from lanefit.common.errors import EstimatorError, ToolchainError
from lanefit.estimator.live.cut import Slice
from lanefit.estimator.live.executed import Value, executed_graph, operator_from_dict
from lanefit.estimator.live.memory import footprint_bytes, terms
from lanefit.estimator.live.ort_graph import ort_graph
from lanefit.estimator.live.ort_runner import OrtRunner
from lanefit.estimator.live.work import work_of

LAYERS = [(16, 32, 3, 14), (32, 32, 1, 14), (32, 64, 3, 14), (64, 16, 1, 14)]


def test_an_operator_survives_its_dictionary_with_its_digest() -> None:
    for node in ort_graph(chain(LAYERS)).nodes:
        again = operator_from_dict(node.operator.as_dict())
        assert again == node.operator
        assert again.digest == node.operator.digest


def test_a_malformed_operator_is_refused() -> None:
    with pytest.raises(EstimatorError, match="malformed"):
        operator_from_dict({"kind": "Conv", "inputs": [["x"]], "outputs": [], "attributes": []})


def test_a_tensor_without_a_shape_is_refused() -> None:
    with pytest.raises(EstimatorError, match="unknown"):
        executed_graph(chain(LAYERS), {"input": Value((1, 16, 14, 14), "float32")})


def test_sizes_count_bits_of_small_types_and_round_up() -> None:
    assert Value((3, 5), "float32").size_bytes == 60
    assert Value((3,), "int4").size_bytes == 2
    assert Value((), "int64").size_bytes == 8


def test_macs_leave_out_taps_that_read_padding() -> None:
    inner, whole = (work_of(chain_graph([(8, 8, 5, size)]).nodes[0].operator) for size in (64, 2))
    assert inner.macs == pytest.approx(64 * 64 * 64 * 25 * (1 - 6 / (5 * 64)) ** 2, rel=1e-6)
    assert whole.macs == 64 * 4 * 4
    assert whole.edge_macs == whole.macs


def test_weights_of_a_large_network_come_from_afar_and_fresh_activations_do_not() -> None:
    nodes = chain_graph([(64, 64, 3, 14)] * 6).nodes
    near, far = terms(nodes, [10_000_000]), terms(nodes, [100_000])
    assert sum(t.distant_bytes[0] for t in near) < 0.01 * sum(n.operator.weight_bytes for n in nodes)
    for term, node in zip(far[1:], nodes[1:], strict=True):
        assert term.distant_bytes[0] == pytest.approx(node.operator.weight_bytes, rel=0.3)


def test_a_piece_of_a_network_is_as_far_from_its_weights_as_the_network_says() -> None:
    nodes = chain_graph([(64, 64, 3, 14)] * 6).nodes
    alone, inside = terms(nodes[:1], [400_000]), terms(nodes[:1], [400_000], footprint=footprint_bytes(nodes))
    assert alone[0].distant_bytes[0] < inside[0].distant_bytes[0]


def test_a_footprint_counts_weights_once_and_reuses_memory_of_activations() -> None:
    nodes = chain_graph([(16, 16, 3, 32)] * 8).nodes
    weights, activation = sum(n.operator.weight_bytes for n in nodes), nodes[0].operator.output_bytes
    assert footprint_bytes(nodes) == weights + 2 * activation


def test_slices_have_the_tensors_that_cross_their_border() -> None:
    graph = chain_graph(LAYERS)
    middle = Slice(graph, 1, 3)
    assert (middle.inputs(), middle.outputs()) == (("t0",), ("t2",))
    model = middle.model()
    assert [t.name for t in model.graph.initializer] == ["w1", "w2"]


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (2, 1), (-1, 2), (0, 9)])
def test_a_slice_outside_of_its_graph_is_refused(start: int, stop: int) -> None:
    with pytest.raises(EstimatorError, match="no part"):
        Slice(chain_graph(LAYERS), start, stop)


def test_every_slice_of_what_onnx_runtime_executes_runs_in_the_blocked_layout_that_it_had() -> None:
    runner = OrtRunner(1)
    graph = runner.executed(chain(LAYERS))
    assert any("nchwc" in node.operator.kind for node in graph.nodes)
    for start in range(len(graph.nodes)):
        session = runner.prepare(Slice(graph, start, start + 1).model(), sweep_bytes=4096)
        assert session.run() > 0
        session.close()


def test_a_model_that_the_runtime_cannot_run_is_refused() -> None:
    model = chain(LAYERS)
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(ToolchainError, match="refuses"):
        ort_graph(model)


def test_all_operators_have_work_also_unknown_ones() -> None:
    node = ort_graph(chain(LAYERS)).nodes[0].operator
    unknown = operator_from_dict({**node.as_dict(), "kind": "org.example.Mystery"})
    work = work_of(unknown)
    assert work.kind == "org.example.Mystery"
    assert work.elements > 0
    assert np.isfinite(work.extents).all()
