"""The operator graph: the one truth that compiler, estimator and reports share. Needs no torch, ONNX or TVM.

Tensors are feature maps (height, width, channels) of int8, int16 or bf16, batch 1. A graph may be *shape-only* (no
constants): partition, planning and estimation need no more; compiling and executing do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..common.errors import ModelError, UnsupportedError
from ..kernels.cuboid_float import FloatAttention
from ..kernels.cuboid_integer import IntegerAttention
from ..kernels.element_types import operand_names, output_name
from ..kernels.movement_ops import Movement
from ..kernels.ops import Op, Shape
from ..kernels.tables import Function
from ..targets.program import PORT_TYPES


@dataclass(frozen=True, slots=True)
class Quantisation:
    """real = scale × (stored − zero_point), per tensor."""

    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """`host_shape` is the shape the host sees without its batch axis: (C, H, W) for a map, (C,) for a vector;
    with `channels_last` any shape that ends with the channels, such as (T, H, W, C) or (N, C).

    int16 has the zero point 0; bf16 holds real values: scale 1, zero point 0.
    """

    name: str
    shape: Shape
    quantisation: Quantisation = Quantisation(1.0, 0)
    host_shape: tuple[int, ...] = ()
    channels_last: bool = False
    dtype: str = "int8"

    @property
    def size_bytes(self) -> int:
        return self.shape[0] * self.shape[1] * self.shape[2] * PORT_TYPES[self.dtype].bytes


@dataclass(frozen=True, slots=True)
class ConvConstants:
    """int8 weights [output channel][kernel row][kernel column][input channel] (depthwise: last axis 1),
    int32 bias (int64 of 48 bits beside int16 maps) with scale input × weight, one float64 weight scale per output
    channel. Beside bf16 maps weights are float32 that bf16 holds, the bias is float32, and scales are 1."""

    weights: NDArray[Any]
    bias: NDArray[Any]
    scales: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TableConstants:
    """The stored output for each stored int8 input, from −128 on; 256 int8. Wider types take the real `function`, or
    without one straight lines between these points."""

    values: NDArray[np.int8]
    function: Function | None = None


@dataclass(frozen=True, slots=True)
class FunctionConstants:
    """The real function of a table of int16 or bf16 maps, and the largest magnitude that calibration saw before it."""

    function: Function
    reach: float


@dataclass(frozen=True, slots=True)
class NormConstants:
    """Real scale and offset of each channel, and what is added to the variance."""

    gamma: NDArray[np.float64]
    beta: NDArray[np.float64]
    epsilon: float


@dataclass(frozen=True, slots=True)
class MapConstants:
    """The stored elements [row][column][channel] of a constant map, int8."""

    values: NDArray[np.int8]


Constants: TypeAlias = (
    ConvConstants
    | TableConstants
    | FunctionConstants
    | NormConstants
    | MapConstants
    | IntegerAttention
    | FloatAttention
)
Clamp: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Node:
    """One operator. `clamp` bounds the stored output (ReLU, ReLU6 or just saturation).

    `source` are the ONNX nodes it came from, for reports and traces. `copies`: it changes nothing and only brings
    its map to where another one wants it. `extra` are further outputs, such as updated global vectors.
    """

    name: str
    op: Op | Movement
    inputs: tuple[str, ...]
    output: str
    clamp: Clamp = (-128, 127)
    source: tuple[str, ...] = ()
    copies: bool = False
    extra: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class View:
    """A map whose elements lie inside of another one, `whole`: element (r, c, k) of it is element
    start + r × row_step + c × col_step + k × channel_step of the whole map, all of them (row, column, channel).

    In a map that lies alone, steps may go on over the end of a row or of a column's channels, as they do where a
    view is another shape of the same elements.
    """

    whole: str
    start: Shape = (0, 0, 0)
    row_step: Shape = (1, 0, 0)
    col_step: Shape = (0, 1, 0)
    channel_step: Shape = (0, 0, 1)

    @property
    def steps(self) -> tuple[Shape, Shape, Shape]:
        return self.row_step, self.col_step, self.channel_step

    def at(self, row: int, col: int, channel: int) -> Shape:
        """Where element (row, col, channel) lies in the whole map."""
        return _sum(self.start, self.moved((row, col, channel)))

    def moved(self, by: Shape) -> Shape:
        """How far apart two elements lie in the whole map that are `by` apart in the view."""
        r, c, k = (sum(n * step[axis] for n, step in zip(by, self.steps, strict=True)) for axis in range(3))
        return r, c, k

    def inside(self, outer: View) -> View:
        """This view seen from the map that `outer`, the view of the whole, lies in."""
        return View(outer.whole, outer.at(*self.start), *(outer.moved(step) for step in self.steps))

    def box(self, shape: Shape) -> tuple[tuple[int, int], ...]:
        """First and last row, column and channel in the whole map of a view of `shape`."""
        low = [sum(min(0, (n - 1) * s[a]) for n, s in zip(shape, self.steps, strict=True)) for a in range(3)]
        high = [sum(max(0, (n - 1) * s[a]) for n, s in zip(shape, self.steps, strict=True)) for a in range(3)]
        return tuple((first + a, first + b) for first, a, b in zip(self.start, low, high, strict=True))


def _sum(a: Shape, b: Shape) -> Shape:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def _meet(a: tuple[tuple[int, int], ...], b: tuple[tuple[int, int], ...]) -> bool:
    return all(low <= top and bottom <= high for (low, high), (bottom, top) in zip(a, b, strict=True))


@dataclass(frozen=True)
class Graph:
    """Nodes in execution order; `constants` by node name, those of the constant maps `fixed` by the map's.

    `views` holds the maps that are parts of others. A part that a node produces is written into the whole map, which
    is complete when all of these are; a part that no node produces is read out of it. No view has a view as its whole.
    """

    nodes: tuple[Node, ...]
    tensors: dict[str, Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: dict[str, Constants] = field(default_factory=dict)
    views: dict[str, View] = field(default_factory=dict)
    fixed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        known = {*self.inputs, *self.fixed}
        for node in self.nodes:
            for name in node.inputs:
                if not known.issuperset(self.makers(name)):
                    raise ModelError(f"{name!r} is used before it is produced", where=f"node {node.name!r}")
            if node.output in known:
                raise ModelError(f"{node.output!r} is produced twice", where=f"node {node.name!r}")
            known |= {node.output, *node.extra}
        for name in (*self.inputs, *self.outputs):
            if name in self.views:
                raise ModelError(f"{name!r} is part of {self.views[name].whole!r}, but the host takes whole maps")
        scattered = [name for name, view in self.views.items() if view.channel_step != (0, 0, 1)]
        if scattered:
            raise ModelError(f"the channels of {scattered} do not lie side by side")
        made = {maker for name in self.outputs for maker in self.makers(name)}
        missing = [n for n in made if n not in known] + [n for n in known if n not in self.tensors]
        if missing:
            raise ModelError(f"unknown tensors {missing}")
        for node in self.nodes:
            self._check_types(node)

    def _check_types(self, node: Node) -> None:
        """Operators and the tensors between them agree on element types."""
        names = operand_names(node.op, len(node.inputs))
        expected = [*zip(node.inputs, names, strict=True), (node.output, output_name(node.op))]
        for name, dtype in expected:
            if self.tensors[name].dtype != dtype:
                raise ModelError(
                    f"{name!r} holds {self.tensors[name].dtype}, the operator works on {dtype}",
                    where=f"node {node.name!r}",
                    hint="put a Requantise between them",
                )

    def check_int8(self, purpose: str) -> None:
        """Raises `UnsupportedError` where a map holds other elements than `purpose` can express."""
        for tensor in self.tensors.values():
            if tensor.dtype != "int8":
                raise UnsupportedError(f"{purpose} holds int8 maps, not {tensor.dtype}", where=f"map {tensor.name!r}")

    def makers(self, tensor: str) -> tuple[str, ...]:
        """The maps that together hold the elements of `tensor` as nodes or the host write them; mostly itself."""
        root = self.root(tensor)
        parts = self._parts.get(root, ())
        if not parts or tensor in parts:
            return (tensor if tensor in parts else root,)
        box = self._box(tensor)
        return tuple(part for part in parts if _meet(box, self._box(part)))

    @cached_property
    def _parts(self) -> dict[str, list[str]]:
        """Parts that nodes write, by whole map."""
        found: dict[str, list[str]] = {}
        for node in self.nodes:
            if node.output in self.views:
                found.setdefault(self.views[node.output].whole, []).append(node.output)
        return found

    def _box(self, tensor: str) -> tuple[tuple[int, int], ...]:
        """First and last row, column and channel of a map within its whole map; of all of it where steps run over."""
        shape = self.tensors[self.root(tensor)].shape
        whole = tuple((0, size - 1) for size in shape)
        if tensor not in self.views:
            return whole
        box = self.views[tensor].box(self.tensors[tensor].shape)
        runs_over = any(first < 0 or last >= size for (first, last), size in zip(box, shape, strict=True))
        return whole if runs_over else box

    def root(self, tensor: str) -> str:
        """The map in whose memory `tensor` lies: itself, or the one that it is a part of."""
        return self.views[tensor].whole if tensor in self.views else tensor

    @cached_property
    def shared(self) -> frozenset[str]:
        """Maps that are parts of others, or have parts."""
        return frozenset(self.views) | {view.whole for view in self.views.values()}

    def producer(self, tensor: str) -> Node | None:
        return next((node for node in self.nodes if tensor in (node.output, *node.extra)), None)

    def consumers(self, tensor: str) -> Iterator[Node]:
        return (node for node in self.nodes if tensor in node.inputs)

    @property
    def macs(self) -> int:
        return sum(node.op.macs for node in self.nodes)


def constants_of(graph: Graph, node: Node) -> ConvConstants:
    """The weights of a convolution; `UnsupportedError` in a shape-only graph."""
    found = graph.constants.get(node.name)
    if not isinstance(found, ConvConstants):
        raise UnsupportedError("a shape-only graph has no weights to execute", where=f"node {node.name!r}")
    return found
