"""Pieces of an executed graph as models of their own: what is measured to calibrate a device."""

from __future__ import annotations

from dataclasses import dataclass

from onnx import ModelProto, ValueInfoProto, helper

from ...common.errors import EstimatorError
from ...export.onnx_model import copy_of
from .executed import ExecutedGraph, ExecutedNode, Value


@dataclass(frozen=True)
class Slice:
    """Nodes [start, stop) of a graph. They run on the layouts that the network has at that place."""

    graph: ExecutedGraph
    start: int
    stop: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop <= len(self.graph.nodes):
            raise EstimatorError(
                f"nodes [{self.start}, {self.stop}) are no part of a graph of {len(self.graph.nodes)} nodes"
            )

    @property
    def nodes(self) -> tuple[ExecutedNode, ...]:
        return self.graph.nodes[self.start : self.stop]

    def inputs(self) -> tuple[str, ...]:
        """Tensors that come from outside, constants apart, each once, in the order of their first use."""
        made = {name for node in self.nodes for name in node.outputs}
        read = (name for node in self.nodes for name in node.inputs if name)
        return tuple(dict.fromkeys(n for n in read if n not in made and not self.graph.values[n].constant))

    def outputs(self) -> tuple[str, ...]:
        """Tensors that later nodes or the caller need, and those that nobody reads."""
        inside = range(self.start, self.stop)
        users = self.graph.users
        made = [name for node in self.nodes for name in node.outputs if name]
        return tuple(
            name
            for name in made
            if name in self.graph.outputs or not users.get(name) or any(u not in inside for u in users[name])
        )

    def model(self) -> ModelProto:
        """An ONNX model of these nodes with their own constants."""
        whole = self.graph.model
        model = copy_of(_shell(whole))
        nodes = whole.graph.node[self.start : self.stop]
        model.graph.node.extend(nodes)
        used = {name for node in nodes for name in node.input}
        model.graph.initializer.extend(t for t in whole.graph.initializer if t.name in used)
        model.graph.input.extend(_info(name, self.graph.values[name]) for name in self.inputs())
        model.graph.output.extend(_info(name, self.graph.values[name]) for name in self.outputs())
        return model


def _shell(model: ModelProto) -> ModelProto:
    """Versions and imported operator sets of `model`, without a graph."""
    shell = ModelProto(ir_version=model.ir_version)
    shell.opset_import.extend(model.opset_import)
    shell.functions.extend(model.functions)
    shell.graph.name = "slice"
    return shell


def _info(name: str, value: Value) -> ValueInfoProto:
    import numpy as np

    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(value.dtype)), value.shape)
