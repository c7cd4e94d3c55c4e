"""Torch to ONNX: quiet, stable, folded and named after the module."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from export_examples import EveryOperator, Mixed, float_model, seeded
from torch import nn

from lanefit.common.errors import ModelError
from lanefit.export.onnx_export import simplify, to_onnx
from lanefit.export.onnx_model import model_bytes
from lanefit.export.split_run import run_samples, session


def test_export_computes_what_the_module_computes_and_writes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    module = seeded(EveryOperator).train()
    model = to_onnx(module, EveryOperator.shape)
    x = np.random.default_rng(0).standard_normal((3, *EveryOperator.shape[1:]), np.float32)
    with torch.no_grad():
        expected = module.eval()(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(run_samples(session(model), {"input": x})["output"], expected, rtol=1e-4, atol=1e-5)
    assert capfd.readouterr() == ("", "")


def test_a_module_in_training_mode_stays_there() -> None:
    module = seeded(Mixed).train()
    to_onnx(module, Mixed.shape)
    assert module.training


def test_batch_normalisation_is_folded_and_nodes_are_named_after_modules() -> None:
    model = float_model(EveryOperator)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert {"stem.0", "depthwise.0", "head", "classify"} <= {node.name for node in model.graph.node}


def test_exported_bytes_hold_no_path_of_this_machine() -> None:
    data = model_bytes(float_model(EveryOperator))
    assert not any(text in data for text in (b".py", b"stack_trace", str(Path.cwd()).encode()))


def test_a_module_that_cannot_be_traced_is_refused_with_a_hint() -> None:
    class Branching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum().item() > 0 else -x

    with pytest.raises(ModelError, match="control flow"):
        to_onnx(Branching(), (1, 3))


def test_simplify_folds_batch_normalisation_of_a_foreign_model_of_an_older_opset() -> None:
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w"], ["c"]),
        onnx.helper.make_node("BatchNormalization", ["c", "g", "b", "m", "v"], ["y"]),
    ]
    values = {"w": np.ones((2, 1, 1, 1)), "g": [2, 2], "b": [1, 1], "m": [0, 0], "v": [1, 1]}
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [info("x", 1, [1, 1, 2, 2])],
        [info("y", 1, [1, 2, 2, 2])],
        [onnx.numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in values.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 11)], ir_version=8)
    simple = simplify(model)
    assert [node.op_type for node in simple.graph.node] == ["Conv"]
    got = run_samples(session(simple), {"x": np.full((1, 1, 2, 2), 3, np.float32)})["y"]
    np.testing.assert_allclose(got, 7, rtol=1e-4)
