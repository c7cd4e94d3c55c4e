"""Every refusal names its rule and the offending value, and reads as the sentence of the support table."""

import numpy as np
import pytest
from export_examples import QdqGraph, conv_graph
from onnx import ModelProto, TensorProto, helper

from lanefit.export.importer import import_model
from lanefit.export.placement import Placement, sentence, support_table

MAP = (1, 4, 6, 6)
DENSE = np.ones((4, 4, 3, 3), np.int8)


def _placement(model: ModelProto, node: str) -> Placement:
    return next(p for p in import_model(model).placements if p.node == node)


def _one(op_type: str, shape: tuple[int, ...] = MAP, *extra: np.ndarray, **attributes: object) -> ModelProto:
    """One operator between quantised input and output, with constant further inputs."""
    graph = QdqGraph(shape)
    more = [graph.constant(f"extra{i}", value) for i, value in enumerate(extra)]
    y = graph.op(op_type, "it", [graph.pair("input", "x", 0.03, 5), *more], **attributes)
    return graph.model(graph.pair(y, "y", 0.05, 3))


def _linear(inputs: int = 4, **attributes: object) -> ModelProto:
    graph = QdqGraph((1, inputs))
    w = graph.weights("w", np.ones((inputs, 3), np.int8), 0.01)
    y = graph.op("Gemm", "it", [graph.pair("input", "x", 0.03, 5), w], **attributes)
    return graph.model(graph.pair(y, "y", 0.05, 3))


def _float_output() -> ModelProto:
    graph = QdqGraph(MAP)
    return graph.model(graph.op("Relu", "it", [graph.pair("input", "x", 0.03, 5)]))


def _int16_input() -> ModelProto:
    graph = QdqGraph(MAP, opset=21)
    y = graph.op("Relu", "it", [graph.pair("input", "x", 0.03, 5, np.int16)])
    return graph.model(graph.pair(y, "y", 0.05, 3))


def _foreign_domain() -> ModelProto:
    graph = QdqGraph(MAP)
    y = graph.op("Gelu", "it", [graph.pair("input", "x", 0.03, 5)], domain="com.microsoft")
    model = graph.model(graph.pair(y, "y", 0.05, 3))
    model.graph.value_info.append(helper.make_tensor_value_info(y, TensorProto.FLOAT, MAP))
    return model


def _two_scales() -> ModelProto:
    graph = QdqGraph(MAP)
    graph.pair("input", "x", 0.03, 5)
    other = [graph.constant("s", np.array(0.04, np.float32)), graph.constant("z", np.array(5, np.int8))]
    a = graph.op("DequantizeLinear", "other", ["x.q.out", *other])
    y = graph.op("Add", "it", ["x.dq.out", a])
    return graph.model(graph.pair(y, "y", 0.05, 3))


def _broadcast_add() -> ModelProto:
    graph = QdqGraph(MAP)
    x = graph.pair("input", "x", 0.03, 5)
    mean = graph.pair(graph.op("GlobalAveragePool", "mean", [x]), "m", 0.01, 0)
    return graph.model(graph.pair(graph.op("Add", "it", [x, mean]), "y", 0.05, 3))


def _computed_weights() -> ModelProto:
    graph = QdqGraph((1, 4, 3, 3))
    x = graph.pair("input", "x", 0.03, 5)
    w = graph.pair(
        graph.op("Slice", "part", [x, *(graph.constant(f"c{v}", np.array([v])) for v in (0, 2, 1))]), "w", 0.03, 5
    )
    return graph.model(graph.pair(graph.op("Conv", "it", [w, graph.op("Abs", "abs", [w])]), "y", 0.05, 3))


def _repeated_matrix() -> ModelProto:
    graph = QdqGraph((1, 4, 5, 5))
    x = graph.pair("input", "x", 0.03, 5)
    one = graph.pair(graph.op("ReduceMax", "one", [x, graph.constant("axes", np.array([1]))]), "m", 0.03, 5)
    return graph.model(graph.pair(graph.op("MatMul", "it", [x, one]), "y", 0.05, 3))


def _computed_bias() -> ModelProto:
    graph = QdqGraph((1, 4))
    x = graph.pair("input", "x", 0.03, 5)
    w = graph.weights("w", np.ones((4, 4), np.int8), 0.01)
    return graph.model(graph.pair(graph.op("Gemm", "it", [x, w, "input"]), "y", 0.05, 3))


def _two_activations(op_type: str, reduced: list[int]) -> ModelProto:
    """`op_type` on a map and on its maximum over some axes."""
    graph = QdqGraph(MAP)
    x = graph.pair("input", "x", 0.03, 5)
    maximum = graph.op("ReduceMax", "maximum", [x, graph.constant("axes", np.array(reduced))])
    y = graph.op(op_type, "it", [x, graph.pair(maximum, "m", 0.1, 0)])
    return graph.model(graph.pair(y, "y", 0.05, 3))


REFUSED = {
    "operator": (_one("Sin"), "operator", "Sin"),
    "domain": (_foreign_domain(), "operator", "com.microsoft.Gelu"),
    "float-input": (
        (lambda g: g.model(g.pair(g.op("Relu", "it", ["input"]), "y", 0.05, 3)))(QdqGraph(MAP)),
        "quantised-input",
        "input is a float tensor",
    ),
    "int16-input": (_int16_input(), "quantised-input", "int16"),
    "two-scales": (_two_scales(), "quantised-input", "several scales"),
    "float-output": (_float_output(), "quantised-output", "used as float"),
    "rank-5": (_one("Relu", (1, 4, 6, 2, 2)), "map-shapes", "[1, 4, 6, 2, 2]"),
    "computed-weights": (_computed_weights(), "constant-weights", "run time"),
    "computed-bias": (_computed_bias(), "constant-bias", "input"),
    "weight-zero-point": (conv_graph(DENSE, zero_point=4), "weight-zero-point", "4"),
    "weight-scale-axis": (conv_graph(DENSE, scale=np.full(4, 0.1), axis=1), "weight-scales", "4 scales along axis 1"),
    "dilation": (conv_graph(DENSE, dilations=[2, 2]), "dilation", "[2, 2]"),
    "groups": (conv_graph(np.ones((4, 2, 3, 3), np.int8), group=2), "groups", "2 groups"),
    "depth-multiplier": (conv_graph(np.ones((8, 1, 3, 3), np.int8), group=4), "groups", "4 to 8 channels"),
    "wide-padding": (conv_graph(DENSE, pads=[3, 3, 3, 3]), "kernel-limits", "0 <= padding < kernel"),
    "scale": (conv_graph(DENSE, scale=1e12), "kernel-limits", "too large for a RESCALE"),
    "accumulator": (
        conv_graph(np.full((4, 20000, 3, 3), 127, np.int8), (1, 20000, 3, 3)),
        "kernel-limits",
        "beyond int32",
    ),
    "gemm-alpha": (_linear(alpha=2.0), "plain-linear", "alpha=2.0"),
    "gemm-transposed-input": (_linear(1, transA=1), "plain-linear", "transA=1"),
    "constant-addend": (_one("Add", MAP, np.ones(MAP, np.float32)), "quantised-input", "extra0 is a constant"),
    "repeated-matrix": (_repeated_matrix(), "matrix-shapes", "[1, 4, 5, 5] and [1, 1, 5, 5]"),
    "broadcast": (_broadcast_add(), "same-shapes", "[1, 4, 6, 6] and [1, 4, 1, 1]"),
    "mean-of-rows": (_one("ReduceMean", MAP, np.array([2])), "reduction-axes", "[2]"),
    "sum-of-map": (_one("ReduceSum", MAP, np.array([2, 3])), "reduction-axes", "[2, 3]"),
    "mean-of-all": (_one("ReduceMean", MAP), "reduction-axes", "None"),
    "softmax-of-rows": (_one("Softmax", MAP, axis=2), "softmax-axis", "axis 2"),
    "cubic": (
        _one("Resize", MAP, np.zeros(0, np.float32), np.array([1, 1, 2, 2], np.float32), mode="cubic"),
        "resize-settings",
        "cubic",
    ),
    "resized-channels": (
        _one("Resize", MAP, np.zeros(0, np.float32), np.array([1, 2, 2, 2], np.float32)),
        "resize-settings",
        "[1, 4, 6, 6] to [1, 8, 12, 12]",
    ),
    "cropping": (
        _one(
            "Resize",
            MAP,
            np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32),
            np.array([1, 1, 2, 2], np.float32),
            coordinate_transformation_mode="tf_crop_and_resize",
        ),
        "kernel-limits",
        "tf_crop_and_resize",
    ),
    "two-arguments": (_two_activations("Div", [1]), "one-argument", "x.dq.out [1, 4, 6, 6]"),
    "product-of-rows": (_two_activations("Mul", [2]), "product-shapes", "[1, 4, 1, 6]"),
    "norm-of-rows": (
        _one("LayerNormalization", MAP, np.ones((6, 6), np.float32), axis=2),
        "normalised-axes",
        "axis 2 of [1, 4, 6, 6]",
    ),
    "norm-with-a-scale-per-element": (
        _one("LayerNormalization", (1, 4), np.array([1e30, 1, 1, 1], np.float32)),
        "kernel-limits",
        "beyond int32",
    ),
    "function-without-value": (_one("Log"), "kernel-limits", "no value"),
    "average-padding": (
        _one("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        "kernel-limits",
        "average pool over padding",
    ),
    "average-overhang": (
        _one("AveragePool", kernel_shape=[4, 4], strides=[3, 3], ceil_mode=1),
        "kernel-limits",
        "average pool over padding",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_names_rule_and_value(case: str) -> None:
    model, rule, value = REFUSED[case]
    placement = _placement(model, "conv" if any(n.name == "conv" for n in model.graph.node) else "it")
    assert (placement.where, placement.rule) == ("cpu", rule)
    assert value in (placement.value or "")
    assert placement.sentence == sentence(rule)


def test_clip_bounds_that_are_computed_are_refused() -> None:
    graph = QdqGraph(MAP)
    low = graph.op("ReduceMin", "low", ["input"], keepdims=0)
    y = graph.op("Clip", "it", [graph.pair("input", "x", 0.03, 5), low])
    assert _placement(graph.model(graph.pair(y, "y", 0.05, 3)), "it").rule == "constant-bounds"


def test_pool_indices_are_refused() -> None:
    graph = QdqGraph(MAP)
    x = graph.pair("input", "x", 0.03, 5)
    y = graph.op("MaxPool", "it", [x], kernel_shape=[2, 2])
    graph.nodes[-1].output.append("indices")
    graph.op("Cast", "use", ["indices"], to=1)
    model = graph.model(graph.pair(y, "y", 0.05, 3))
    model.graph.output.add().CopyFrom(model.graph.output[0])
    model.graph.output[1].name = "use.out"
    assert _placement(model, "it").rule == "single-result"


def test_the_support_table_has_a_sentence_for_every_rule() -> None:
    rows = list(support_table())
    assert {row[0] for row in rows} >= {"Conv", "Gemm", "MatMul", "Add", "MaxPool", "AveragePool", "Relu", "Clip"}
    assert all(text.endswith(".") and "\n" not in text for _, _, text in rows)


def test_a_placement_as_json_carries_its_sentence() -> None:
    values = Placement("a", "Conv", "cpu", "dilation", "[2, 2]").as_dict()
    assert values["sentence"] == "Windows are not dilated."
    assert Placement("a", "Conv", "engine").as_dict()["sentence"] is None
