"""Fused chains of convolutions: inverted bottleneck (expand → depthwise → project) and fused inverted bottleneck
(k×k → project), with an optional residual addition at the end.

The maps between the convolutions never exist as a whole. Output rows are made stripe by stripe; each
inner map is a rolling buffer of the rows that the next convolution still needs, so no row is computed
twice. With R rows per stripe, stripe i needs rows up to a_j·i + b_j of map j, where going backwards
through a convolution of stride s, padding p and kernel k:  a' = a·s,  b' = b·s − p + k − 1.  Stripe i
computes the a_j rows that end there; the b_j − a_j + 1 rows before stripe 0 are the prologue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..targets.cost import ceil_div, constants_work, conv_work
from ..targets.isa import ConvMode, Unit
from ..targets.spec import EngineSpec
from .builder import Builder, Ring, Value
from .conv import emit_conv, load_records, map_cycles, open_ring
from .element_types import elements, input_type, output_type
from .kernel import (
    Buffer,
    Estimate,
    Operands,
    Role,
    Tiling,
    map_size,
    map_view,
    pipelined,
    range_fields,
    record_pitch,
    resident_view,
    rows_transfer,
    splits,
    tile_view,
    weight_bytes,
    window_fields,
)
from .ops import Conv2d
from .subgraph import Memory, Subgraph


@dataclass(frozen=True, slots=True)
class Stage:
    """Rows that one convolution of a chain computes: `rows` per stripe, the first `prologue` before stripe 0."""

    conv: Conv2d
    rows: int
    prologue: int

    def input_rows(self, rows: int) -> int:
        """Input rows under `rows` output rows."""
        return (rows - 1) * self.conv.window.stride_h + self.conv.window.kernel_h

    @property
    def kept_rows(self) -> int:
        """Rows of the rolling buffer in front: those under a stripe or the prologue."""
        needed = self.input_rows(max(self.rows, self.prologue))
        made = self.rows * self.conv.window.stride_h  # more than needed where the stride skips rows
        return min(self.conv.input[0], max(needed, made))

    @property
    def first_input_row(self) -> int:
        """Input row under the first output row of stripe 0 (negative inside the padding)."""
        return self.prologue * self.conv.window.stride_h - self.conv.window.pad_h


def stages(convs: Sequence[Conv2d], rows: int) -> list[Stage]:
    """The stages of a chain whose last convolution makes `rows` output rows per stripe."""
    found: list[Stage] = []
    per_stripe, last = rows, rows - 1
    for conv in reversed(convs):
        found.append(Stage(conv, per_stripe, min(conv.output[0], last - per_stripe + 1)))
        window = conv.window
        last = last * window.stride_h - window.pad_h + window.kernel_h - 1
        per_stripe *= window.stride_h
        last = max(last, per_stripe - 1)  # a stripe never starts above row 0
    return found[::-1]


class ChainKernel:
    """Two or three convolutions, stripe by stripe. Space: output rows per stripe. All weights are resident."""

    unit = Unit.ARRAY

    def space(self, subgraph: Subgraph, spec: EngineSpec) -> Sequence[Tiling]:
        last = subgraph.convs[-1]
        return [Tiling(rows, last.output[2]) for rows in splits(last.output[0]) if rows < last.output[0]] or [
            Tiling(last.output[0], last.output[2])
        ]

    def buffers(self, subgraph: Subgraph, spec: EngineSpec, tiling: Tiling) -> tuple[Buffer, ...]:
        chain = stages(subgraph.convs, tiling.rows)
        depth = min(2, ceil_div(chain[-1].conv.output[0], tiling.rows))
        found = [Buffer(f"weights{n}", Role.WEIGHTS, weight_bytes(s.conv)) for n, s in enumerate(chain)]
        found += [Buffer(f"rolling{n}", Role.ROLLING, _rolling_bytes(s)) for n, s in enumerate(chain[1:], 1)]
        _, in_w, in_c = chain[0].conv.input
        row_bytes = in_w * in_c * input_type(chain[0].conv).bytes
        _, out_w, out_c = chain[-1].conv.output
        if subgraph.input is not Memory.SRAM:
            first = chain[0]
            found.append(Buffer("input", Role.INCOMING, first.input_rows(first.rows) * row_bytes, depth))
            if first.prologue:
                found.append(Buffer("prologue", Role.INCOMING, first.input_rows(first.prologue) * row_bytes))
        stripe = tiling.rows * out_w * out_c * output_type(chain[-1].conv).bytes
        if subgraph.second not in (None, Memory.SRAM):
            found.append(Buffer("second", Role.INCOMING, stripe, depth))
        if subgraph.output is not Memory.SRAM:
            found.append(Buffer("output", Role.OUTGOING, stripe, depth))
        return tuple(found)

    def estimate(self, subgraph: Subgraph, spec: EngineSpec, tiling: Tiling) -> Estimate:
        chain = stages(subgraph.convs, tiling.rows)
        last = chain[-1].conv
        stripes = ceil_div(last.output[0], tiling.rows)
        compute = sum(
            _stage_cycles(s, stripes, spec, residual=s is chain[-1] and subgraph.second is not None) for s in chain
        )
        weights = sum(constants_work(spec, 1, weight_bytes(s.conv), 1).cycles + spec.issue_cycles for s in chain)
        in_h, in_w, in_c = chain[0].conv.input
        rows, (size, out_size) = min(chain[0].input_rows(chain[0].rows), in_h), (input_type(last), output_type(last))
        load = map_cycles(spec, subgraph.input, (rows, in_w, in_c), in_c, size)
        out = map_cycles(spec, subgraph.output, (tiling.rows, *last.output[1:]), last.output[2], out_size)
        second = map_cycles(spec, subgraph.second, (tiling.rows, *last.output[1:]), last.output[2], out_size)
        dma = weights + stripes * (load + out + second)
        return pipelined(spec, compute, dma, first=weights + load + second, last=compute / stripes, tail=out)

    def emit(self, builder: Builder, subgraph: Subgraph, tiling: Tiling, operands: Operands) -> None:
        _ChainEmitter(builder, self, subgraph, tiling, operands).emit()


class _ChainEmitter:
    def __init__(
        self, builder: Builder, kernel: ChainKernel, subgraph: Subgraph, tiling: Tiling, operands: Operands
    ) -> None:
        self.b, self.o, self.rows = builder, operands, tiling.rows
        self.chain = stages(subgraph.convs, tiling.rows)
        self.rings: dict[str, Ring] = {}
        self.weights: list[Value] = []
        for buffer in kernel.buffers(subgraph, builder.spec, tiling):
            if buffer.role is Role.ROLLING:
                continue
            self.rings[buffer.name] = open_ring(builder, buffer, operands)
            if buffer.role is Role.WEIGHTS:
                self.weights.append(self._load_weights(len(self.weights), buffer.name))

    def emit(self) -> None:
        self._prologue()
        with self.b.loop(ceil_div(self.chain[-1].conv.output[0], self.rows)) as i:
            source = self._input(i)
            for number, stage in enumerate(self.chain[:-1]):
                self._conv(number, source, i * stage.rows + stage.prologue, stage.rows)
                source = self._rolling("in", number + 1)
            self._last(source, i)

    def _prologue(self) -> None:
        first = self.chain[0]
        if not first.prologue:
            return
        if "prologue" in self.rings:
            row0 = -first.conv.window.pad_h
            slot = self.b.load(
                self.rings["prologue"], **rows_transfer(self.o.input, row0, first.input_rows(first.prologue))
            )
            source = tile_view("in", slot, first.conv.input[1:], row0=row0, dtype=self.o.input.dtype)
        else:
            source = map_view("in", self.o.input)
        for number, stage in enumerate(self.chain[:-1]):
            if stage.prologue:
                self._conv(number, source, 0, stage.prologue)
            source = self._rolling("in", number + 1)

    def _input(self, i: Value) -> dict[str, Value | int]:
        source, first = self.o.input, self.chain[0]
        if "input" not in self.rings:
            return map_view("in", source)
        row0 = i * (first.rows * first.conv.window.stride_h) + first.first_input_row
        slot = self.b.load(self.rings["input"], **rows_transfer(source, row0, first.input_rows(first.rows)))
        return tile_view("in", slot, source.shape[1:], row0=row0, dtype=source.dtype)

    def _last(self, source: dict[str, Value | int], i: Value) -> None:
        number, last = len(self.chain) - 1, self.chain[-1].conv
        row = i * self.rows
        second = self._second(row)
        if "output" not in self.rings:
            self._conv(number, source, row, self.rows, map_view("out", self.o.output), second)
            return
        slot = self.b.reserve(self.rings["output"])
        target = tile_view("out", slot, last.output[1:], row0=row, dtype=self.o.output.dtype)
        self._conv(number, source, row, self.rows, target, second)
        self.b.store(self.rings["output"], slot, **rows_transfer(self.o.output, row, self.rows))

    def _second(self, row: Value) -> dict[str, Value | int] | None:
        second = self.o.second
        if second is None:
            return None
        if "second" not in self.rings:
            return map_view("b", second)
        slot = self.b.load(self.rings["second"], **rows_transfer(second, row, self.rows))
        return tile_view("b", slot, second.shape[1:], row0=row, dtype=second.dtype)

    def _conv(
        self,
        number: int,
        source: dict[str, Value | int],
        row: Value | int,
        rows: int,
        target: dict[str, Value | int] | None = None,
        second: dict[str, Value | int] | None = None,
    ) -> None:
        conv = self.chain[number].conv
        zero_point = self.o.input.zero_point if number == 0 else self.o.stages[number - 1].zero_point
        fields = {
            **source, **map_size(conv.input, zero_point), **window_fields(conv),
            "mode": int(ConvMode.DEPTHWISE if conv.depthwise else ConvMode.DENSE),
            "channels_in": 1 if conv.depthwise else conv.input[2],
            "weights_addr": self.weights[number], "weights_chan0": 0, "record_pitch": record_pitch(conv),
            **range_fields(conv.output, row, rows),
        }  # fmt: skip
        emit_conv(self.b, fields, target or self._rolling("out", number + 1), self.o, number, second)

    def _rolling(self, prefix: str, number: int) -> dict[str, Value | int]:
        """View of the rolling buffer in front of convolution `number`."""
        stage = self.chain[number]
        address, shape = self.o.buffers[f"rolling{number}"], stage.conv.input
        return resident_view(prefix, address, shape, wrap=stage.kept_rows, dtype=input_type(stage.conv))

    def _load_weights(self, number: int, name: str) -> Value:
        conv = self.chain[number].conv
        return load_records(self.b, self.rings[name], self.o, number, conv, Value(), conv.output[2])


def _rolling_bytes(stage: Stage) -> int:
    _, width, channels = stage.conv.input
    return stage.kept_rows * width * channels * input_type(stage.conv).bytes


def _stage_cycles(stage: Stage, stripes: int, spec: EngineSpec, *, residual: bool) -> float:
    """Compute cycles of one convolution over all stripes; rows beyond the map are clipped, not computed."""
    conv = stage.conv
    done = stage.prologue
    total = _rows_cycles(stage, stage.prologue, spec, residual) if stage.prologue else 0.0
    full, rest = divmod(max(0, conv.output[0] - done), stage.rows)
    total += full * _rows_cycles(stage, stage.rows, spec, residual)
    if rest:
        total += _rows_cycles(stage, rest, spec, residual)
    return total + max(0, stripes - full - bool(rest)) * spec.issue_cycles


def _rows_cycles(stage: Stage, rows: int, spec: EngineSpec, residual: bool) -> float:
    conv = stage.conv
    work = conv_work(
        spec, rows, conv.output[1], conv.output[2], conv.input[2], conv.window.kernel_h, conv.window.kernel_w,
        depthwise=conv.depthwise, residual=residual, stride=(conv.window.stride_h, conv.window.stride_w),
        elements=elements(conv),
    )  # fmt: skip
    return work.cycles + spec.issue_cycles
