from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference

from lanefit.common.errors import InputError, LanefitError, ModelError
from lanefit.estimator.opgraph.graph import OperatorGraph
from lanefit.estimator.opgraph.onnx_reader import operator_graph, read_onnx
from lanefit.estimator.opgraph.operator import Kind, Operator, Window
from lanefit.export.onnx_model import OPSET, model_bytes, parse_model
from lanefit.export.quantise import quantise, random_calibration

SHAPE = (1, 8, 12, 12)


def model(
    nodes: Sequence[NodeProto],
    constants: Mapping[str, NDArray] | None = None,
    *,
    shape: Sequence[int | str] = SHAPE,
    outputs: Sequence[str] = ("y",),
    domains: Sequence[str] = (),
) -> ModelProto:
    values = constants or {}
    graph = helper.make_graph(
        nodes, "main",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", OPSET), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return shape_inference.infer_shapes(helper.make_model(graph, opset_imports=opsets, ir_version=10))


def weights(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def read(*nodes: NodeProto, constants: Mapping[str, NDArray] | None = None, **options: object) -> OperatorGraph:
    return operator_graph(model(nodes, constants, **options))  # type: ignore[arg-type]


def only(graph: OperatorGraph) -> Operator:
    (operator,) = graph.operators
    return operator


def test_a_convolution_is_read_with_window_groups_and_weights() -> None:
    node = helper.make_node(
        "Conv", ["x", "w", "b"], ["y"], group=2, strides=[2, 1], pads=[1, 0, 2, 0], dilations=[1, 2]
    )
    operator = only(read(node, constants={"w": weights(4, 4, 3, 3), "b": weights(4)}))
    assert operator.kind == Kind.GROUPED
    assert operator.window == Window((3, 3), (2, 1), (1, 2), (1, 0, 2, 0), groups=2)
    assert (operator.weights, operator.output) == (((4, 4, 3, 3), (4,)), (1, 4, 7, 8))
    assert operator.macs == 4 * 7 * 8 * 4 * 9


def test_padding_that_follows_from_a_mode_is_written_out() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER", strides=[2, 2])
    operator = only(read(node, constants={"w": weights(8, 8, 3, 3)}))
    assert operator.window is not None
    assert operator.window.padding == (0, 0, 1, 1)
    assert operator.output == (1, 8, 6, 6)


def test_normalisation_becomes_part_of_the_convolution_before_it() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "g", "b", "m", "v"], ["y"]),
    ]
    scale = {name: np.abs(weights(8)) + 1 for name in "gbmv"}
    operator = only(read(*nodes, constants={"w": weights(8, 8, 1, 1), **scale}))
    assert (operator.kind, operator.weights) == (Kind.CONV, ((8, 8, 1, 1), (8,)))


def test_what_depends_on_constants_alone_is_not_executed() -> None:
    nodes = [
        helper.make_node("Mul", ["w", "s"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["turned"], perm=[1, 0, 2, 3]),
        helper.make_node("Conv", ["x", "turned"], ["y"]),
    ]
    operator = only(read(*nodes, constants={"w": weights(8, 4, 1, 1), "s": weights(1)}))
    assert operator.weights == ((4, 8, 1, 1),)


def test_dead_operators_identities_and_dropout_are_not_executed() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["unused"]),
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("Dropout", ["same"], ["kept"]),
        helper.make_node("Sigmoid", ["kept"], ["y"]),
    ]
    graph = read(*nodes)
    assert only(graph).kind == Kind.SIGMOID
    assert graph.nodes[0].inputs == ("x",)


def test_an_unknown_operator_keeps_its_name_and_its_shapes() -> None:
    operator = only(read(helper.make_node("Softsign", ["x"], ["y"])))
    assert (operator.kind, operator.inputs, operator.output) == ("Softsign", (SHAPE,), SHAPE)


def test_equal_operators_of_one_input_are_one_but_not_with_weights() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Relu", ["x"], ["b"]),
        helper.make_node("Conv", ["a", "w"], ["c"]),
        helper.make_node("Conv", ["b", "v"], ["d"]),
        helper.make_node("Add", ["c", "d"], ["y"]),
    ]
    graph = read(*nodes, constants={"w": weights(8, 8, 1, 1), "v": weights(8, 8, 1, 1) + 1})
    assert [operator.kind for operator in graph.operators] == [Kind.RELU, Kind.CONV, Kind.CONV, Kind.ADD]


def test_a_product_with_zeros_is_a_zero_and_with_other_scalars_a_product() -> None:
    nodes = [
        helper.make_node("Mul", ["x", "nought"], ["a"]),
        helper.make_node("Mul", ["x", "two"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    graph = read(*nodes, constants={"nought": np.zeros((), np.float32), "two": np.full((), 2, np.float32)})
    assert [operator.kind for operator in graph.operators] == [Kind.ZERO, Kind.MUL, Kind.ADD]
    assert graph.operators[1].weights == ()


@pytest.mark.parametrize(
    ("node", "matrix", "shape", "expected", "macs"),
    [
        (helper.make_node("Gemm", ["x", "m"], ["y"], transB=1), (5, 8), (1, 8), (Kind.LINEAR, (5, 8)), 40),
        (helper.make_node("Gemm", ["x", "m"], ["y"]), (8, 5), (1, 8), (Kind.LINEAR, (5, 8)), 40),
        (helper.make_node("MatMul", ["x", "m"], ["y"]), (8, 5), (1, 3, 8), (Kind.LINEAR, (5, 8)), 120),
        (helper.make_node("MatMul", ["m", "x"], ["y"]), (5, 8), (1, 8, 3), (Kind.LINEAR, (5, 8)), 120),
    ],
)
def test_products_with_a_constant_matrix_are_linear(
    node: NodeProto, matrix: tuple[int, int], shape: tuple[int, ...], expected: tuple[Kind, tuple[int, ...]], macs: int
) -> None:
    operator = only(read(node, constants={"m": weights(*matrix)}, shape=shape))
    assert (operator.kind, operator.weights[0], operator.macs) == (*expected, macs)


def test_a_product_of_two_activations_is_a_matrix_product() -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["x", "t"], ["y"]),
    ]
    graph = read(*nodes, shape=(1, 2, 5, 7))
    assert graph.operators[1].kind == Kind.MATMUL
    assert graph.macs == 2 * 5 * 5 * 7


def test_means_over_a_map_are_global_pools_and_other_reductions_are_not() -> None:
    def mean(axes: Sequence[int]) -> Operator:
        node = helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=1)
        return only(read(node, constants={"axes": np.array(axes)}))

    assert mean([2, 3]).kind == mean([-1, -2]).kind == Kind.GLOBAL_POOL
    assert mean([1]).kind == Kind.REDUCE
    assert mean([2, 3]).weights == ()


def test_every_used_part_of_a_split_is_an_operator() -> None:
    nodes = [
        helper.make_node("Split", ["x", "sizes"], ["a", "b", "c"], axis=1),
        helper.make_node("Relu", ["a"], ["d"]),
        helper.make_node("Add", ["c", "d"], ["y"]),
    ]
    graph = read(*nodes, constants={"sizes": np.array([2, 4, 2])})
    kinds = sorted(str(operator.kind) for operator in graph.operators)
    assert kinds == ["add", "relu", "slice", "slice"]
    assert {operator.output for operator in graph.operators} == {(1, 2, 12, 12)}


def test_one_dimensional_convolutions_have_windows_of_height_one() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], strides=[2], pads=[1, 2])
    operator = only(read(node, constants={"w": weights(6, 8, 4)}, shape=(1, 8, 20)))
    assert operator.window == Window((1, 4), (1, 2), padding=(0, 1, 0, 2))
    assert operator.macs == 6 * 10 * 8 * 4


def test_a_quantised_network_executes_on_integers_between_its_borders() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Add", ["r", "x"], ["s"]),
        helper.make_node("GlobalAveragePool", ["s"], ["y"]),
    ]
    quantised = quantise(model(nodes, {"w": weights(8, 8, 3, 3), "b": weights(8)}), random_calibration(SHAPE))
    graph = operator_graph(quantised)
    assert [(o.kind, o.dtype) for o in graph.operators] == [
        (Kind.QUANTISE, "int8"), (Kind.CONV, "int8"), (Kind.ADD, "int8"),
        (Kind.GLOBAL_POOL, "int8"), (Kind.DEQUANTISE, "int8"),
    ]  # fmt: skip
    assert graph.operators[1].weight_bytes == 8 * 8 * 9 + 8 * 4
    assert graph.nodes[2].inputs == (graph.nodes[1].name, graph.nodes[0].name)


def gelu(order: str) -> list[NodeProto]:
    """x/2 × (1 + erf(x/√2)), multiplied in one of three orders."""
    nodes = [
        helper.make_node("Div", ["x", "root"], ["scaled"]),
        helper.make_node("Erf", ["scaled"], ["erf"]),
        helper.make_node("Add", ["erf", "one"], ["plus"]),
    ]
    products = {
        "whole first": [("plus", "x", "p"), ("p", "half", "g")],
        "half first": [("plus", "half", "p"), ("x", "p", "g")],
        "half aside": [("x", "half", "p"), ("p", "plus", "g")],
    }
    return [*nodes, *(helper.make_node("Mul", [a, b], [out]) for a, b, out in products[order])]


GELU_CONSTANTS = {"root": np.float32(1.41421356), "one": np.float32(1), "half": np.float32(0.5)}


@pytest.mark.parametrize("order", ["whole first", "half first", "half aside"])
def test_a_gelu_of_five_operators_is_one(order: str) -> None:
    constants = {name: np.asarray(value) for name, value in GELU_CONSTANTS.items()}
    graph = read(*gelu(order), helper.make_node("Relu", ["g"], ["y"]), constants=constants)
    assert [operator.kind for operator in graph.operators] == [Kind.GELU, Kind.RELU]
    assert graph.nodes[0].inputs == ("x",)


def test_a_gelu_that_others_look_into_stays_as_it_is_written() -> None:
    constants = {name: np.asarray(value) for name, value in GELU_CONSTANTS.items()}
    graph = read(*gelu("whole first"), helper.make_node("Add", ["g", "plus"], ["y"]), constants=constants)
    assert len(graph.operators) == 6


def test_views_of_stored_integers_are_views_of_integers() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Reshape", ["c", "shape"], ["r"]),
        helper.make_node("MatMul", ["r", "m"], ["y"]),
    ]
    constants = {"w": weights(8, 8, 1, 1), "shape": np.array([1, 8, 144]), "m": weights(144, 4)}
    graph = operator_graph(quantise(model(nodes, constants), random_calibration(SHAPE)))
    assert {(o.kind, o.dtype) for o in graph.operators} >= {(Kind.RESHAPE, "int8"), (Kind.LINEAR, "int8")}
    assert "float32" not in {operator.dtype for operator in graph.operators}


@pytest.mark.parametrize("seed", range(30))
def test_a_damaged_model_is_read_or_refused_with_a_typed_error(seed: int) -> None:
    generator = np.random.default_rng(seed)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Split", ["c", "sizes"], ["a", "b"], axis=1),
        helper.make_node("Concat", ["b", "a"], ["y"], axis=1),
    ]
    data = bytearray(model_bytes(model(nodes, {"w": weights(8, 8, 3, 3), "sizes": np.array([3, 5])})))
    for _ in range(20):
        damaged = bytearray(data)
        for place in generator.integers(len(data), size=int(generator.integers(1, 4))):
            damaged[place] = generator.integers(256)
        with contextlib.suppress(LanefitError):
            assert operator_graph(parse_model(bytes(damaged), where="damaged")).nodes


def test_an_operator_on_floats_inside_of_a_quantised_network_keeps_its_conversions() -> None:
    scale, zero = {"s": np.array(0.1, np.float32)}, {"z": np.array(3, np.int8)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("Relu", ["d"], ["r"]),
        helper.make_node("Sin", ["r"], ["y"]),
    ]
    graph = read(*nodes, constants={**scale, **zero})
    assert [operator.kind for operator in graph.operators] == [Kind.QUANTISE, Kind.DEQUANTISE, Kind.RELU, "Sin"]
    assert [operator.dtype for operator in graph.operators] == ["int8", "int8", "float32", "float32"]


def test_a_model_whose_output_is_a_constant_executes_nothing() -> None:
    nodes = [helper.make_node("Add", ["a", "b"], ["y"]), helper.make_node("Relu", ["x"], ["unused"])]
    graph = read(*nodes, constants={"a": weights(3), "b": weights(3)})
    assert graph.operators == ()
    assert graph.outputs == ("y",)


def test_a_file_is_read_and_given_the_shape_that_it_leaves_open(tmp_path: Path) -> None:
    dynamic = model([helper.make_node("Relu", ["x"], ["y"])], shape=("batch", 8, "height", "width"))
    path = tmp_path / "model.onnx"
    path.write_bytes(model_bytes(dynamic))
    assert only(read_onnx(path, SHAPE)).output == SHAPE
    with pytest.raises(ModelError, match="dynamic"):
        read_onnx(path)


def test_files_that_are_no_models_are_typed_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.onnx"):
        read_onnx(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ModelError):
        read_onnx(tmp_path / "text.onnx")
