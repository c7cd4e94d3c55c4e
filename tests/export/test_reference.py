"""The integer meaning of whole graphs: layouts, and what it refuses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanefit.common.errors import InputError, ModelError, UnsupportedError
from lanefit.export.graph import Graph, Node, Quantisation, Tensor
from lanefit.export.reference import conv_rescale, node_rescale, run_graph, run_region, to_host, to_map
from lanefit.kernels.ops import Conv2d, Pool2d, Requantise, Window
from lanefit.kernels.rescale import rescale_operands


def _graph(op: Conv2d | Requantise, scale: float = 0.5) -> Graph:
    tensors = {
        "x": Tensor("x", op.input, Quantisation(scale, 1), (op.input[2], *op.input[:2])),
        "y": Tensor("y", op.output, Quantisation(0.25, -2), (op.output[2], *op.output[:2])),
    }
    return Graph((Node("n", op, ("x",), "y"),), tensors, ("x",), ("y",))


@given(st.integers(1, 3), st.tuples(*[st.integers(1, 4)] * 3))
def test_host_layout_and_map_layout_are_inverse(batch: int, shape: tuple[int, int, int]) -> None:
    tensor = Tensor("t", shape, host_shape=(shape[2], *shape[:2]))
    value = np.random.default_rng(0).integers(-128, 128, (batch, *tensor.host_shape)).astype(np.int8)
    assert to_map(value, tensor).shape == (batch, *shape)
    np.testing.assert_array_equal(to_host(to_map(value, tensor), tensor), value)


def test_a_requantised_map_has_the_values_that_its_scales_say() -> None:
    x = np.arange(-8, 8, dtype=np.int8).reshape(1, 2, 2, 4)
    got = run_region(_graph(Requantise((2, 4, 2))), {"x": x})["y"]
    np.testing.assert_array_equal(got, (x.astype(int) - 1) * 2 - 2)


def test_an_average_divides_in_its_rescale() -> None:
    graph = _graph(Requantise((2, 2, 1)))
    node = Node("n", Pool2d((2, 2, 1), (1, 1, 1), Window(2, 2), maximum=False), ("x",), "y")
    assert node_rescale(graph, node) == rescale_operands(0.5 / 0.25 / 4)


def test_a_shape_only_graph_has_no_weights_to_execute() -> None:
    graph = _graph(Conv2d((2, 2, 1), (2, 2, 1), Window(1, 1)))
    with pytest.raises(UnsupportedError, match="no weights to execute"):
        conv_rescale(graph, graph.nodes[0])


def test_missing_and_misshapen_inputs_are_named() -> None:
    graph = _graph(Requantise((2, 4, 2)))
    with pytest.raises(ModelError, match="no value for input 'x'"):
        run_graph(graph, {})
    with pytest.raises(InputError, match="takes int8 maps"):
        run_graph(graph, {"x": np.zeros((1, 2, 4, 2), np.float32)})
