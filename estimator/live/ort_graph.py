"""What ONNX Runtime executes: its optimised model, and the shapes that its own inference finds in it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
from onnx import ModelProto, helper

from ...common.errors import ToolchainError
from ...export.onnx_model import copy_of, unique_names
from .executed import ExecutedGraph, Value, executed_graph

if TYPE_CHECKING:
    import onnxruntime

_TYPE = re.compile(r"tensor\((\w+)\)")
_NAMES = {"float": "float32", "double": "float64"}
LEVELS = ("none", "basic", "extended", "all")


def session_options(threads: int, level: str) -> onnxruntime.SessionOptions:
    """Options of a session with `threads` threads that runs operators one after another."""
    import onnxruntime

    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = {
        "none": levels.ORT_DISABLE_ALL,
        "basic": levels.ORT_ENABLE_BASIC,
        "extended": levels.ORT_ENABLE_EXTENDED,
        "all": levels.ORT_ENABLE_ALL,
    }[level]
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    return options


def open_session(model: bytes, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """A session on the CPU; what the runtime refuses raises `ToolchainError`."""
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's classes share no base but Exception
        reason = str(error).strip().splitlines()[0]
        raise ToolchainError(f"ONNX Runtime refuses the model: {reason}", hint="check it with onnx.checker") from error


def ort_graph(model: ModelProto, *, level: str = "all") -> ExecutedGraph:
    """The operators that ONNX Runtime executes for `model` on this host after optimisation `level`; runs nothing."""
    with tempfile.TemporaryDirectory() as folder:
        options, path = session_options(1, level), Path(folder) / "optimised.onnx"
        options.optimized_model_filepath = str(path)
        open_session(model.SerializeToString(), options)
        optimised = onnx.load(str(path))
    names = unique_names(node.name or node.op_type for node in optimised.graph.node)
    for node, name in zip(optimised.graph.node, names, strict=True):
        node.name = name
    return executed_graph(optimised, _shapes(optimised))


def _shapes(model: ModelProto) -> Mapping[str, Value]:
    """Every tensor's shape: the session of a copy that names all tensors as outputs reports them, unexecuted."""
    exposed = copy_of(model)
    known = {value.name for value in exposed.graph.output}
    for node in model.graph.node:
        for name in node.output:
            if name and name not in known:
                known.add(name)
                exposed.graph.output.append(helper.make_empty_tensor_value_info(name))
    session = open_session(exposed.SerializeToString(), session_options(1, "none"))
    return {value.name: _value(value) for value in (*session.get_inputs(), *session.get_outputs())}


def _value(argument: onnxruntime.NodeArg) -> Value:
    match = _TYPE.fullmatch(argument.type)
    static = all(isinstance(extent, int) for extent in argument.shape)
    if match is None or not static:
        hint = "export the model with static shapes"
        raise ToolchainError(f"tensor {argument.name!r} is {argument.type} of shape {argument.shape}", hint=hint)
    return Value(tuple(argument.shape), _NAMES.get(match[1], match[1]))
