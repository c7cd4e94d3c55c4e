"""Tensor views in SRAM: from fields of an instruction to boxes of bytes, output regions and input windows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..common.errors import ProgramFault
from .elements import load_elements, store_elements
from .isa import DType
from .memory import Box, Memory
from .resolve import clipped

_VIEW = ("addr", "pitch_h", "pitch_w", "row0", "wrap", "chan0")


@dataclass(frozen=True, slots=True)
class Extent:
    """Rows × columns × channels of a map: `row` and `chan` are the first ones, columns start at `col`."""

    row: int
    rows: int
    col: int
    cols: int
    chan: int
    channels: int

    @property
    def elements(self) -> int:
        return self.rows * self.cols * self.channels


def output_extent(f: Mapping[str, int]) -> Extent:
    """What a compute instruction covers after clipping."""
    rows = clipped(f["row_start"], f["row_count"], f["row_limit"])
    channels = clipped(f["chan_start"], f["chan_count"], f["chan_limit"])
    return Extent(f["row_start"], rows, 0, f["col_count"], f["chan_start"], channels)


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows [start, start + rows) of an extent, counted from its first row, lie in one box of SRAM."""

    start: int
    rows: int
    box: Box


@dataclass(frozen=True, slots=True)
class View:
    """One operand of an instruction; see the docstring of `isa` for the meaning of the fields."""

    addr: int
    pitch_h: int
    pitch_w: int
    row0: int
    wrap: int
    chan0: int
    dtype: DType

    @classmethod
    def of(cls, prefix: str, f: Mapping[str, int]) -> View:
        addr, pitch_h, pitch_w, row0, wrap, chan0 = (f[f"{prefix}_{name}"] for name in _VIEW)
        return cls(addr, pitch_h, pitch_w, row0, wrap, chan0, DType(f[f"{prefix}_type"]))

    def segments(self, extent: Extent) -> list[Segment]:
        """The boxes that hold a non-empty extent: one, or two when a rolling buffer wraps around in it."""
        if extent.chan < self.chan0:
            raise ProgramFault(f"channel {extent.chan} lies before the first one of the view, {self.chan0}")
        if self.wrap == 0:
            if extent.row < self.row0:
                raise ProgramFault(f"row {extent.row} lies before the first one of the view, {self.row0}")
            return [Segment(0, extent.rows, self._box(extent, extent.row - self.row0, extent.rows))]
        if extent.rows > self.wrap:
            raise ProgramFault(f"{extent.rows} rows do not fit a rolling buffer of {self.wrap}")
        local = extent.row % self.wrap
        head = min(extent.rows, self.wrap - local)
        found = [Segment(0, head, self._box(extent, local, head))]
        if head < extent.rows:
            found.append(Segment(head, extent.rows - head, self._box(extent, 0, extent.rows - head)))
        return found

    def _box(self, extent: Extent, local_row: int, rows: int) -> Box:
        size = self.dtype.bytes
        address = self.addr + local_row * self.pitch_h + extent.col * self.pitch_w + (extent.chan - self.chan0) * size
        return Box(address, (rows, extent.cols, extent.channels * size), (self.pitch_h, self.pitch_w, 1))


def read_extent(sram: Memory, view: View, extent: Extent) -> NDArray[Any]:
    """The values of an extent, (1 or runs, rows, columns, channels), as `load_elements` gives them."""
    parts = [load_elements(sram.read(segment.box), view.dtype) for segment in view.segments(extent)]
    if len(parts) == 1:
        return parts[0]
    runs = max(len(part) for part in parts)
    return np.concatenate([np.broadcast_to(part, (runs, *part.shape[1:])) for part in parts], axis=1)


def write_extent(sram: Memory, view: View, extent: Extent, values: NDArray[Any]) -> None:
    """Stores (1 or runs, rows, columns, channels) values; floats are rounded to the type of the view."""
    raw = store_elements(values, view.dtype)
    for segment in view.segments(extent):
        sram.write(segment.box, raw[:, segment.start : segment.start + segment.rows])


@dataclass(frozen=True, slots=True)
class Window:
    """The part of an input map that lies under an output extent, padding included.

    `top`, `left` count the padded rows and columns before the `parts`, which hold what the map has of it.
    """

    rows: int
    cols: int
    channels: int
    top: int
    left: int
    parts: tuple[tuple[int, NDArray[Any]], ...]
    boxes: tuple[Box, ...]

    @property
    def runs(self) -> int:
        return max((len(values) for _, values in self.parts), default=1)

    def padded(self, runs: slice, fill: float, dtype: DTypeLike, zero_point: int = 0) -> NDArray[Any]:
        """Values minus `zero_point` for some runs, (runs, rows, columns, channels), with `fill` as padding."""
        count = len(range(*runs.indices(self.runs)))
        shape = (count, self.rows, self.cols, self.channels)
        inside = sum(values[0].size for _, values in self.parts)
        found = np.empty(shape, dtype) if inside == np.prod(shape[1:]) else np.full(shape, fill, dtype)
        for start, values in self.parts:
            rows, cols = values.shape[1:3]
            target = found[:, self.top + start : self.top + start + rows, self.left : self.left + cols]
            source = values[runs] if len(values) > 1 else values
            if zero_point:
                np.subtract(source, zero_point, out=target, dtype=dtype)
            else:
                target[...] = source
        return found


def read_window(sram: Memory, f: Mapping[str, int], out: Extent, chan: int, channels: int) -> Window:
    """Reads what lies under the output extent `out`, for input channels [chan, chan + channels)."""
    kernel_h, kernel_w = f.get("kernel_h", 1), f.get("kernel_w", 1)
    stride_h, stride_w = f.get("stride_h", 1), f.get("stride_w", 1)
    row, col = out.row * stride_h - f.get("pad_h", 0), out.col * stride_w - f.get("pad_w", 0)
    rows, cols = (out.rows - 1) * stride_h + kernel_h, (out.cols - 1) * stride_w + kernel_w
    sram.budget.check_window(rows, cols, channels)
    top, left = max(0, -row), max(0, -col)
    inside_rows = min(row + rows, f["in_rows"]) - (row + top)
    inside_cols = min(col + cols, f["in_cols"]) - (col + left)
    if inside_rows <= 0 or inside_cols <= 0:
        return Window(rows, cols, channels, 0, 0, (), ())
    inside = Extent(row + top, inside_rows, col + left, inside_cols, chan, channels)
    view = View.of("in", f)
    segments = view.segments(inside)
    parts = tuple((segment.start, load_elements(sram.read(segment.box), view.dtype)) for segment in segments)
    return Window(rows, cols, channels, top, left, parts, tuple(segment.box for segment in segments))


def check_target(sram: Memory, view: View, extent: Extent, window: Window | None = None) -> None:
    """Raises `ProgramFault` unless the output lies in SRAM, each element in its own bytes, and off the `window`."""
    rows = view.wrap or extent.rows
    shape = Box(view.addr, (rows, extent.cols, extent.channels * view.dtype.bytes), (view.pitch_h, view.pitch_w, 1))
    if not shape.has_distinct_bytes():
        raise ProgramFault(f"output pitches {view.pitch_h} and {view.pitch_w} put two elements into one byte")
    for segment in view.segments(extent):
        sram.check(segment.box)
        if window is not None and any(segment.box.overlaps(box) for box in window.boxes):
            raise ProgramFault(f"the output from SRAM byte {segment.box.low} on overlaps the input")
