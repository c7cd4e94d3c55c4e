"""Reads the per-layer tables of Arm's Ethos-U compiler into layers of the block model, with what the model says."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lanefit.targets.block_array import Block, BlockCost, Layer, bias_bytes, block_cost
from lanefit.targets.block_search import find_block
from lanefit.targets.spec import EngineSpec, load_spec, preset_names

ARRAY_OPERATORS = ("Conv2D", "DepthwiseConv2D", "FullyConnected", "MaxPool", "AvgPool")


@dataclass(frozen=True, slots=True)
class Row:
    """One operator on one accelerator: the compiler's figures, and what its weights are (bytes, where, in slices)."""

    network: str
    accelerator: str
    operator: str
    layer: Layer
    block: Block
    mac_cycles: int
    output_cycles: int
    op_cycles: int
    weight_bytes: int = 0
    buffered: bool = True  # weights are copied to SRAM ahead of the operator
    prefetched: bool = True  # the copy, or its first slice, passes under earlier operators
    first_slice: float = 1.0  # share of the output channels in the first slice of weights
    flash: bool = True  # constants come from flash; otherwise they lie in SRAM


@dataclass(frozen=True, slots=True)
class Judged:
    """A row with the model's cycles: in the compiler's block, and in the block of our own search."""

    row: Row
    given: BlockCost
    own_block: Block
    own_cycles: float

    @property
    def exact(self) -> bool:
        """MAC and output cycles within one cycle, given the block."""
        return abs(self.given.mac - self.row.mac_cycles) <= 1 and abs(self.given.output - self.row.output_cycles) <= 1

    @property
    def error(self) -> float:
        """Relative error of whole-layer cycles with our own block."""
        return self.own_cycles / self.row.op_cycles - 1


def read_layers(path: Path) -> Iterator[Row]:
    """The array operators of `vela_per_layer_blockcfg.csv` on accelerators that have a preset."""
    with path.open(newline="", encoding="utf-8") as file:
        for record in csv.DictReader(file):
            if record["op"] in ARRAY_OPERATORS and record["accel"] in _modelled() and record["mac_cycles"]:
                yield _row(record)


def read_alignment(path: Path) -> Iterator[tuple[str, int, Row]]:
    """(kind, channels, row) of `vela_channel_alignment.csv` on accelerators that have a preset."""
    with path.open(newline="", encoding="utf-8") as file:
        for record in csv.DictReader(file):
            if record["accel"] in _modelled():
                channels, extent = int(record["C"]), (int(record["H"]), int(record["W"]))
                depthwise = record["kind"].startswith("dw")
                high, wide = _dimensions(record["kind"].removeprefix("conv").removeprefix("dw"))
                layer = Layer(
                    *extent, channels, channels, (high, wide),
                    depthwise=depthwise, input=extent, linear_in=True, linear_out=True,
                )  # fmt: skip
                stored = high * wide * channels * (1 if depthwise else channels)
                row = _figures(record, "alignment", record["op"], layer, weight_bytes=stored, flash=False)
                yield record["kind"], channels, row


def judge(row: Row) -> Judged:
    """What the model says about a row."""
    spec = load_spec(row.accelerator)
    latency = spec.sram_latency_cycles if row.buffered else spec.flash_latency_cycles
    given = block_cost(spec, row.layer, row.block, bias_latency=latency)
    own = find_block(spec, row.layer)
    return Judged(row, given, own, whole_cycles(spec, row, block_cost(spec, row.layer, own, bias_latency=latency)))


def whole_cycles(spec: EngineSpec, row: Row, cost: BlockCost) -> float:
    """Cycles of the operator: the slowest of array with output stage, SRAM and flash.

    Biases come from flash for each block. Weights are read for each block of the plane, from SRAM when they were
    copied there; the part of the copy that nothing hides precedes the operator.
    """
    biases = bias_bytes(cost, row.layer)
    sram, flash, exposed = cost.map_bytes, float(biases), 0.0
    if not row.flash:
        sram, flash = sram + biases, 0.0
    weights = 0 if row.layer.pooling else row.weight_bytes
    if row.buffered:
        sram += weights * cost.plane_blocks
        copied = weights * (1 - row.first_slice if row.prefetched else 1)
        flash += copied
        if not row.prefetched and weights:
            exposed = (weights * row.first_slice) / spec.flash_bytes_per_cycle + spec.flash_latency_cycles
    else:
        flash += weights
    engine = cost.engine + exposed
    return max(engine, sram / spec.sram_bytes_per_cycle, flash / spec.flash_bytes_per_cycle)


def _modelled() -> set[str]:
    return {name for name in preset_names() if name.startswith("ethos-u55-")}


def _dimensions(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split("x"))


def _row(record: dict[str, str]) -> Row:
    rows_in, cols_in, channels_in = _dimensions(record["ifm"])[-3:]
    # A cascade lists stripes; without one the stripe is what is computed, without the rows of padding around it.
    cascaded = record["cascade"] not in ("", "0") or not record["ofm_stripe"]
    rows, cols, channels = _dimensions(record["ofm" if cascaded else "ofm_stripe"])[-3:]
    kernel, stride = _dimensions(record["k"]), _dimensions(record["s"])
    operator = record["op"]
    layer = Layer(
        rows, cols, channels, channels_in, (kernel[0], kernel[1]), (stride[0], stride[1]),
        depthwise=operator == "DepthwiseConv2D", pooling=operator.endswith("Pool"), maximum=operator == "MaxPool",
        input=(rows_in, cols_in), linear_in=record["ifm_fmt"] == "NHWC", linear_out=record["ofm_fmt"] == "NHWC",
    )  # fmt: skip
    slices = [int(number) for number in record["depth_slices"].split("|") if number]
    return _figures(
        record, record["model"], operator, layer,
        weight_bytes=int(record["w_bytes"] or 0), buffered=record["w_buf"] != "",
        prefetched=record["w_prebuf"] == "1", first_slice=slices[1] / slices[-1] if len(slices) > 1 else 1.0,
    )  # fmt: skip


def _figures(record: dict[str, str], network: str, operator: str, layer: Layer, **weights: float) -> Row:
    rows, cols, channels = _dimensions(record["ofm_block"])[-3:]
    depth = _dimensions(record["ifm_block"])[-1]
    cycles = int(record["mac_cycles"]), int(record["ao_cycles"]), int(record["op_cycles"])
    block = Block(rows, cols, channels, depth)
    return Row(network, record["accel"], operator, layer, block, *cycles, **weights)  # pyright: ignore[reportArgumentType]
