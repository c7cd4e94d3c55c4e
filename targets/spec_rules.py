"""What makes an engine description consistent. Every message carries both sides of the broken relation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .spec import EngineSpec

MAX_SEMAPHORES = 65536
DATAFLOWS = ("weight-stationary", "block", "output-stationary")
MAX_BLOCK_PLANE, MAX_BLOCK_DEPTHS, MAX_CHOICES = 4096, 64, 16
LIST_WIDTHS = {"folds": 2, "micro_blocks": 3}  # fields that hold lists of so many integers
_MEMORIES = ("dram", "sram")
_LARGEST_RATE = 2**53  # cycles and bytes stay countable
_MAY_BE_ZERO = frozenset(
    {
        "dram_latency_cycles",
        "sram_latency_cycles",
        "flash_latency_cycles",
        "issue_cycles",
        "flash_bytes_per_cycle",
        "pool_elements_per_cycle",
        "add_elements_per_cycle",
        "dependency_cycles",
        "buffer_reserved_banks",
    }
)


def problems(spec: EngineSpec) -> Iterator[str]:
    """One sentence for each contradiction in `spec`; later rules may rely on the earlier ones."""
    yield from _numbers(spec)
    yield from _choices(spec)
    yield from _array(spec)
    if spec.dataflow == "block":
        yield from _blocks(spec)
    yield from _memory(spec)


def _numbers(spec: EngineSpec) -> Iterator[str]:
    for f in fields(spec):
        value = getattr(spec, f.name)
        if f.type not in ("int", "float"):
            continue
        if f.name in _MAY_BE_ZERO:
            if not 0 <= value < math.inf:
                yield f"{f.name} must be finite and must not be negative, got {value}"
        elif not 0 < value < math.inf:
            yield f"{f.name} must be positive and finite, got {value}"
        if _LARGEST_RATE < value < math.inf:
            yield f"{f.name} {value} is above {_LARGEST_RATE}, beyond any engine"
    for name in LIST_WIDTHS:
        if len(getattr(spec, name)) > MAX_CHOICES:
            yield f"{name} lists {len(getattr(spec, name))} choices, at most {MAX_CHOICES} are tried"
        if any(number < 1 for row in getattr(spec, name) for number in row):
            yield f"{name} must hold positive numbers, got {getattr(spec, name)}"
    if spec.semaphores > MAX_SEMAPHORES:
        yield f"semaphores {spec.semaphores} exceed {MAX_SEMAPHORES}"


def _choices(spec: EngineSpec) -> Iterator[str]:
    if spec.dataflow not in DATAFLOWS:
        yield f"dataflow {spec.dataflow!r} is none of {', '.join(DATAFLOWS)}"
    if spec.io_memory not in _MEMORIES:
        yield f"io_memory {spec.io_memory!r} is none of {', '.join(_MEMORIES)}"


def _array(spec: EngineSpec) -> Iterator[str]:
    if spec.dataflow != "weight-stationary" and len(spec.micro_blocks) > 1:
        yield f"dataflow {spec.dataflow!r} has one micro-block, micro_blocks lists {len(spec.micro_blocks)}"
    if spec.dataflow == "output-stationary" and spec.input_lanes > 1:
        yield f"dataflow 'output-stationary' sums one product per place and cycle, input_lanes is {spec.input_lanes}"
    if spec.pool_elements_per_cycle and spec.dataflow != "block":
        yield f"only dataflow 'block' pools on the array: pool_elements_per_cycle is {spec.pool_elements_per_cycle}"
    if spec.depthwise_taps > spec.input_lanes:
        yield f"depthwise_taps {spec.depthwise_taps} exceed input_lanes {spec.input_lanes} that serve them"
    products = spec.input_lanes * spec.step_cycles
    for channels, taps in spec.folds:
        if channels * taps != products:
            yield (
                f"folds use every product of a step: {channels} channels x {taps} taps is {channels * taps}, "
                f"input_lanes {spec.input_lanes} x step_cycles {spec.step_cycles} is {products}"
            )
    results = spec.output_lanes * spec.positions
    for h, w, c in spec.micro_blocks:
        if h * w * c != results:
            yield (
                f"micro_blocks use every accumulator: {h} x {w} x {c} is {h * w * c}, "
                f"positions {spec.positions} x output_lanes {spec.output_lanes} is {results}"
            )
    if spec.accumulator_bytes < 4 * results:
        yield f"accumulator_bytes {spec.accumulator_bytes} hold less than one int32 micro-block, {4 * results}"


def _blocks(spec: EngineSpec) -> Iterator[str]:
    """The limits keep the search for a block small; the buffers hold one micro-block under the largest window."""
    if spec.block_h * spec.block_w > MAX_BLOCK_PLANE or spec.block_c > MAX_BLOCK_DEPTHS * spec.block_c_step:
        yield (
            f"a block of {spec.block_h} x {spec.block_w} x {spec.block_c} in steps of {spec.block_c_step} channels "
            f"exceeds {MAX_BLOCK_PLANE} positions or {MAX_BLOCK_DEPTHS} steps"
        )
    (high, wide, deep), step = spec.array_blocks[0], spec.block_c_step
    if step > spec.block_c or spec.block_c % deep:
        yield (
            f"block_c {spec.block_c} must be a multiple of the {deep} channels of a micro-block, "
            f"and at least block_c_step {step}"
        )
    position = max(*(channels for channels, _ in spec.array_folds), 2 * max(deep, step))  # 2: int16
    fetched = -(-high * wide * 64 * position // spec.buffer_bank_bytes)  # 64: positions of a window of 8 x 8
    summed = -(-high * wide * max(deep, step) * 5 // spec.buffer_bank_bytes)  # 5: bytes of a wide sum
    needed = spec.buffer_reserved_banks + sum(
        -(-2 * banks // granule) * granule
        for banks, granule in ((fetched, spec.buffer_input_granule), (summed, spec.buffer_sum_granule))
    )
    if needed > spec.buffer_banks:
        yield f"buffer_banks {spec.buffer_banks} hold less than the smallest block, {needed}"


def _memory(spec: EngineSpec) -> Iterator[str]:
    if spec.sram_bytes % spec.sram_banks:
        yield f"sram_bytes {spec.sram_bytes} do not divide into sram_banks {spec.sram_banks}"
    for name in ("dram_bytes_per_cycle", "flash_bytes_per_cycle"):
        if spec.sram_bytes_per_cycle < getattr(spec, name):
            yield f"sram_bytes_per_cycle {spec.sram_bytes_per_cycle} are below {name} {getattr(spec, name)}"
