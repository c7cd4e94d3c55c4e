"""The operator graph: the one truth that compiler, estimator and reports share. Needs no torch, ONNX or TVM.

Tensors are int8 feature maps (height, width, channels), batch 1. A graph may be *shape-only* (no
constants): partition, planning and estimation need no more; compiling and executing do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..common.errors import ModelError
from ..kernels.ops import Op, Shape


@dataclass(frozen=True, slots=True)
class Quantisation:
    """real = scale × (stored − zero_point), per tensor."""

    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """`host_shape` is the shape the host sees without its batch axis: (C, H, W) for a map, (C,) for a vector."""

    name: str
    shape: Shape
    quantisation: Quantisation = Quantisation(1.0, 0)
    host_shape: tuple[int, ...] = ()

    @property
    def size_bytes(self) -> int:
        return self.shape[0] * self.shape[1] * self.shape[2]


@dataclass(frozen=True, slots=True)
class ConvConstants:
    """int8 weights [output channel][kernel row][kernel column][input channel] (depthwise: last axis 1),
    int32 bias with scale input × weight, one float64 weight scale per output channel."""

    weights: NDArray[np.int8]
    bias: NDArray[np.int32]
    scales: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TableConstants:
    """The stored output for each stored input, from −128 on; 256 int8."""

    values: NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class NormConstants:
    """Real scale and offset of each channel, and what is added to the variance."""

    gamma: NDArray[np.float64]
    beta: NDArray[np.float64]
    epsilon: float


Constants: TypeAlias = ConvConstants | TableConstants | NormConstants
Clamp: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Node:
    """One operator. `clamp` bounds the stored int8 output (ReLU, ReLU6 or just saturation).

    `source` are the ONNX nodes it came from, for reports and traces.
    """

    name: str
    op: Op
    inputs: tuple[str, ...]
    output: str
    clamp: Clamp = (-128, 127)
    source: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in execution order; `constants` by node name."""

    nodes: tuple[Node, ...]
    tensors: dict[str, Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: dict[str, Constants] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = set(self.inputs)
        for node in self.nodes:
            for name in node.inputs:
                if name not in known:
                    raise ModelError(f"{name!r} is used before it is produced", where=f"node {node.name!r}")
            if node.output in known:
                raise ModelError(f"{node.output!r} is produced twice", where=f"node {node.name!r}")
            known.add(node.output)
        missing = [name for name in self.outputs if name not in known] + [n for n in known if n not in self.tensors]
        if missing:
            raise ModelError(f"unknown tensors {missing}")

    def producer(self, tensor: str) -> Node | None:
        return next((node for node in self.nodes if node.output == tensor), None)

    def consumers(self, tensor: str) -> Iterator[Node]:
        return (node for node in self.nodes if tensor in node.inputs)

    @property
    def macs(self) -> int:
        return sum(node.op.macs for node in self.nodes)
