"""Operator graphs from Vela's per-layer tables (`vela_per_layer_blockcfg.csv`): shapes, windows, branches.

A table names no tensors. Each row reads the latest tensor of its input shape; the second operand of an addition is
the latest tensor that nobody has read, and otherwise the oldest of that shape since the last addition, that one's
result included: the input of the block. Rows without cycles of their own (ReLU) belong to the row before. A `Mul` by a
single constant is a change of scale.

Left out: `Quantize`, and what Vela makes of a final softmax: the rows behind the last convolution, fully connected
layer or average pooling, if anything among them is not an operator of the engine. Other unknown rows are an error.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lanefit.common.errors import InputError
from lanefit.export.blank import with_zero_weights
from lanefit.export.graph import Graph, Node, Tensor
from lanefit.kernels.ops import Add, Conv2d, Op, Pool2d, Requantise, Shape, Window

LAYERS, SUMMARY = "vela_per_layer_blockcfg.csv", "vela_summary.csv"
_FUSED = frozenset({"Relu", "Relu6", "ReluN1To1"})
_ANCHORS = frozenset({"Conv2D", "DepthwiseConv2D", "FullyConnected", "AvgPool"})
_ENGINE = _ANCHORS | {"MaxPool", "Add"}
Row = dict[str, str]


def read_table(path: Path, *columns: str) -> list[Row]:
    """The rows of a CSV file that has at least these columns."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read the table: {error}", where=str(path)) from error
    missing = [name for name in columns if not rows or name not in rows[0]]
    if missing:
        raise InputError(f"the table lacks {', '.join(missing)}", where=str(path))
    return rows


@dataclass(frozen=True, slots=True)
class TableNetwork:
    """A network of one table: its graph, and the rows that are not in it with their cycles."""

    graph: Graph
    left_out: tuple[str, ...]
    left_out_cycles: float


def network(rows: Sequence[Row], where: str) -> TableNetwork:
    """The network of the rows of one model on one accelerator, with zero weights."""
    kept, dropped = _split(rows, where)
    build = _Builder(where)
    for row in kept:
        build.add(row)
    cycles = sum(float(row["op_cycles"] or 0) for row in dropped)
    return TableNetwork(build.graph(), tuple(row["op"] for row in dropped), cycles)


def _split(rows: Sequence[Row], where: str) -> tuple[list[Row], list[Row]]:
    real = [row for row in rows if row["op"] not in _FUSED]
    last = max((i for i, row in enumerate(real) if row["op"] in _ANCHORS), default=-1)
    tail = real[last + 1 :]
    decomposed = any(row["op"] not in _ENGINE for row in tail)
    kept = [row for row in real[: last + 1] if row["op"] != "Quantize"] + ([] if decomposed else tail)
    for row in kept:
        if row["op"] not in _ENGINE and not _rescales(row):
            raise InputError(f"{row['op']} is none of {', '.join(sorted(_ENGINE))}", where=f"{where} row {row['idx']}")
    return kept, [row for row in real if row not in kept]


@dataclass(slots=True)
class _Builder:
    where: str
    nodes: list[Node] = field(default_factory=list)
    made: list[str] = field(default_factory=list)  # tensors in order of production
    tensors: dict[str, Tensor] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)
    block: int = 0  # place in `made` from which on tensors belong to the present block

    def add(self, row: Row) -> None:
        source, target = _shape(row["ifm"]), _shape(row["ofm"])
        name = f"{row['op'].lower()}{row['idx']}"
        if not self.made:
            self._tensor("input", source)
        op = self._operator(row, source, target)
        first = self._latest(source, row)
        inputs = (
            (first, self._second(first, _shape(row["ifm2"] or row["ifm"]), row)) if row["op"] == "Add" else (first,)
        )
        self.unread.difference_update(inputs)
        self._tensor(f"{name}:0", target)
        self.nodes.append(Node(name, op, inputs, f"{name}:0"))
        if row["op"] == "Add":
            self.block = len(self.made) - 1

    def graph(self) -> Graph:
        if not self.nodes:
            raise InputError("no row is an operator of the engine", where=self.where)
        outputs = tuple(name for name in self.made if name in self.unread)
        return with_zero_weights(Graph(tuple(self.nodes), self.tensors, ("input",), outputs))

    def _operator(self, row: Row, source: Shape, target: Shape) -> Op:
        if row["op"] == "Add":
            return Add(target)
        if _rescales(row):
            return Requantise(target)
        window = _window(row, source, target)
        if row["op"] in ("AvgPool", "MaxPool"):
            return Pool2d(source, target, window, maximum=row["op"] == "MaxPool")
        return Conv2d(source, target, window, depthwise=row["op"] == "DepthwiseConv2D")

    def _latest(self, shape: Shape, row: Row) -> str:
        found = [name for name in self.made if self.tensors[name].shape == shape]
        if not found:
            raise InputError(f"no row before makes its input {shape}", where=f"{self.where} row {row['idx']}")
        return found[-1]

    def _second(self, first: str, shape: Shape, row: Row) -> str:
        same = [name for name in self.made if self.tensors[name].shape == shape and name != first]
        unread = [name for name in same if name in self.unread]
        block = [name for name in same if self.made.index(name) >= self.block]
        if not same:
            raise InputError(f"no second operand of shape {shape}", where=f"{self.where} row {row['idx']}")
        return unread[-1] if unread else block[0] if block else same[-1]

    def _tensor(self, name: str, shape: Shape) -> None:
        host = (shape[2],) if shape[:2] == (1, 1) else (shape[2], *shape[:2])
        self.tensors[name] = Tensor(name, shape, host_shape=host)
        self.made.append(name)
        self.unread.add(name)


def _rescales(row: Row) -> bool:
    return row["op"] == "Mul" and row["ifm2"] == "1x1x1x1" and row["ifm"] == row["ofm"]


def _shape(text: str) -> Shape:
    try:
        batch, height, width, channels = (int(part) for part in text.split("x"))
    except ValueError as error:
        raise InputError(f"{text!r} is not a shape such as 1x14x14x64") from error
    if batch != 1:
        raise InputError(f"batch {batch} in {text!r}: the engine runs one image at a time")
    return height, width, channels


def _window(row: Row, source: Shape, target: Shape) -> Window:
    """Padding as in TensorFlow: SAME where the output has ceil(input / stride) positions, else VALID."""
    kernel, stride = (tuple(int(part) for part in row[name].split("x")) for name in ("k", "s"))
    pads: list[int] = []
    for axis in range(2):
        same = target[axis] == -(-source[axis] // stride[axis])
        total = (target[axis] - 1) * stride[axis] + kernel[axis] - source[axis]
        pads.append(max(0, total) // 2 if same else 0)
    return Window(kernel[0], kernel[1], stride[0], stride[1], *pads)
