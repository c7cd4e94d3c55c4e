"""Writes quantise/dequantise ONNX nodes, and knows how the host sees the maps of a graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from onnx import NodeProto, helper

from .graph import Clamp, Graph, Quantisation
from .onnx_model import DEQUANTISE, QUANTISE

FULL = (-128, 127)


@dataclass(slots=True)
class QdqWriter:
    """Nodes and constants of the model; every method returns the name of a float tensor."""

    nodes: list[NodeProto] = field(default_factory=list)
    constants: dict[str, NDArray] = field(default_factory=dict)

    def constant(self, name: str, value: ArrayLike, dtype: type) -> str:
        self.constants[name] = np.asarray(value, dtype)
        return name

    def op(self, op_type: str, name: str, inputs: Sequence[str], **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op_type, inputs, [f"{name}.out"], name=name, **attributes))
        return f"{name}.out"

    def dequantise(self, stored: str, quantisation: Quantisation) -> str:
        scale = self.constant(f"{stored}.scale", quantisation.scale, np.float32)
        zero = self.constant(f"{stored}.zero", quantisation.zero_point, np.int8)
        return self.op(DEQUANTISE, f"{stored}.dequantise", [stored, scale, zero])

    def quantise(self, source: str, stored: str, quantisation: Quantisation, clamp: Clamp) -> None:
        """`source` clipped to the clamp's real values and stored as int8 under the name `stored`."""
        if clamp != FULL:
            low, high = ((bound - quantisation.zero_point) * quantisation.scale for bound in clamp)
            bounds = [
                self.constant(f"{stored}.low", low, np.float32),
                self.constant(f"{stored}.high", high, np.float32),
            ]
            source = self.op("Clip", f"{stored}.clip", [source, *bounds])
        scale = self.constant(f"{stored}.scale", quantisation.scale, np.float32)
        zero = self.constant(f"{stored}.zero", quantisation.zero_point, np.int8)
        self.nodes.append(helper.make_node(QUANTISE, [source, scale, zero], [stored], name=f"{stored}.quantise"))

    def reshape(self, source: str, name: str, shape: tuple[int, ...]) -> str:
        return self.op("Reshape", name, [source, self.constant(f"{name}.shape", shape, np.int64)])

    def weights(self, name: str, values: NDArray[np.integer], scales: NDArray[np.float64]) -> str:
        """A dequantised constant with one scale per slice of axis 0."""
        stored = self.constant(name, values, values.dtype.type)
        scale = self.constant(f"{name}.scale", scales, np.float32)
        zero = self.constant(f"{name}.zero", np.zeros(len(scales)), values.dtype.type)
        return self.op(DEQUANTISE, f"{name}.dequantise", [stored, scale, zero], axis=0)


def host_shape(graph: Graph, name: str) -> tuple[int, ...]:
    tensor = graph.tensors[name]
    return tensor.host_shape or (tensor.shape[2], *tensor.shape[:2])


def is_vector(graph: Graph, name: str) -> bool:
    """Whether the host sees (n, channels) rather than (n, channels, height, width)."""
    return len(host_shape(graph, name)) == 1
