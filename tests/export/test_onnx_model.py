"""Loading ONNX files: every sort of bad file is a `ModelError` that says what to do."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from export_examples import Mixed, QdqGraph, conv_graph, float_model, int8_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lanefit.common.errors import InputError, ModelError
from lanefit.export.onnx_model import load_model, model_bytes, parse_model, unique_names, with_static_shapes

WEIGHTS = np.ones((2, 4, 3, 3), np.int8)


def test_a_written_model_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(model_bytes(float_model(Mixed)))
    assert load_model(path) == float_model(Mixed)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 not onnx", b"\x00" * 64], ids=["empty", "zip", "zeros"])
def test_something_else_than_onnx_is_refused(data: bytes) -> None:
    with pytest.raises(ModelError):
        parse_model(data, where="x.onnx")


def test_a_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        load_model(tmp_path / "absent.onnx")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.floats(0, 0.999))
def test_a_truncated_model_is_refused_or_still_a_valid_one(share: float) -> None:
    whole = model_bytes(int8_model(Mixed))
    try:
        model = parse_model(whole[: int(share * len(whole))], where="cut.onnx")
    except ModelError:
        return
    onnx.checker.check_model(model)


def test_weights_in_another_file_are_refused_with_a_hint(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    model = conv_graph(np.ones((64, 4, 3, 3), np.int8))
    onnx.save_model(model, path, save_as_external_data=True, location="weights.bin", size_threshold=16)
    with pytest.raises(ModelError, match="save the model as one file"):
        load_model(path)


def test_invalid_onnx_is_refused_by_the_checker() -> None:
    model = conv_graph(WEIGHTS)
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(ModelError, match="not valid ONNX"):
        parse_model(model.SerializeToString(), where="x.onnx")


def test_dynamic_shapes_need_an_input_shape() -> None:
    model = conv_graph(WEIGHTS)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    with pytest.raises(ModelError, match="give the input shape"):
        with_static_shapes(model)
    fixed = with_static_shapes(model, (1, 4, 6, 6))
    assert [d.dim_value for d in fixed.graph.output[0].type.tensor_type.shape.dim] == [1, 2, 4, 4]


@pytest.mark.parametrize("shape", [(1, 4, 6), (1, 3, 6, 6)], ids=["rank", "channels"])
def test_an_input_shape_that_contradicts_the_model_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="the given shape"):
        with_static_shapes(conv_graph(WEIGHTS), shape)


def test_a_batch_is_refused() -> None:
    model = conv_graph(WEIGHTS, (8, 4, 6, 6))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 8
    with pytest.raises(ModelError, match="batch 8"):
        with_static_shapes(model)


def test_shapes_that_do_not_fit_together_are_refused() -> None:
    graph = QdqGraph((1, 4, 6, 6))
    model = graph.model(graph.op("Add", "add", ["input", graph.constant("c", np.ones((1, 3, 6, 6), np.float32))]))
    with pytest.raises(ModelError, match="do not fit together"):
        with_static_shapes(model)


@given(st.lists(st.sampled_from(["a", "b", "a_2"]), max_size=8))
def test_unique_names_are_unique_and_keep_their_first_occurrence(names: list[str]) -> None:
    result = unique_names(names)
    assert len(set(result)) == len(names)
    assert all(got.startswith(name) for name, got in zip(names, result, strict=True))
