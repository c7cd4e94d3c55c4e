"""One suggestion for a subgraph: what holds it, in terms of its shapes and the engine's lanes, and what would help."""

from __future__ import annotations

from math import prod

from ..common.units import format_bytes
from ..kernels.element_types import elements
from ..kernels.ops import Conv2d
from ..targets.cost import ceil_div, conv_work
from ..targets.spec import EngineSpec
from .compiler import SubgraphReport
from .planned import PlannedStep

_WORTH = 1.1  # gains below ten per cent are not worth a sentence
_WAITING = 0.5  # share of the cycles that the busiest resource must reach to be what holds a subgraph
_RESOURCES = ("array", "output", "vector", "memory")


def advise(step: PlannedStep, report: SubgraphReport, spec: EngineSpec) -> str:
    """What to change about the subgraph, and what it brings where that follows from the shapes."""
    busiest = max(_RESOURCES, key=lambda name: getattr(report, name))
    if getattr(report, busiest) < _WAITING * report.cycles:
        return "mostly waiting for transfers to begin and end: too little work per step to hide them"
    match busiest:
        case "array":
            return _array(step, spec)
        case "output":
            outputs = sum(prod(op.output) for op in step.subgraph.ops)
            rate = f"{spec.output_elements_per_cycle:g} per cycle"
            return f"{outputs} results pass the output stage at {rate}: fewer or smaller maps, or more work for each"
        case "vector":
            return f"the vector unit takes {spec.vector_lanes} elements per cycle: a smaller map"
    return _memory(step, report, spec)


def _array(step: PlannedStep, spec: EngineSpec) -> str:
    if not step.subgraph.convs:
        return "products of activations fill the array: fewer or smaller matrices"
    conv = max(step.subgraph.convs, key=lambda op: _cycles(op, spec))
    if conv.depthwise and spec.input_lanes > spec.depthwise_taps:
        used = f"{spec.depthwise_taps} of {spec.input_lanes} input lanes"
        return f"the depthwise convolution uses {used}: a fused block or a plain convolution may be faster"
    options = [_fewer_outputs(conv, spec), _fewer_inputs(conv, spec), _taller(conv, spec)]
    gain, text = max(options, default=(1.0, ""))
    return text if gain >= _WORTH else "the lanes are well used: only fewer multiply-accumulates help"


def _fewer_outputs(conv: Conv2d, spec: EngineSpec) -> tuple[float, str]:
    channels = conv.output[2]
    kept = channels - channels % spec.output_lanes
    if kept in (0, channels):
        return 1.0, ""
    _, _, deep = _block(conv, spec)
    used = channels / (ceil_div(channels, deep) * deep)
    smaller = Conv2d(conv.input, (*conv.output[:2], kept), conv.window) if not conv.depthwise else conv
    return _gain(conv, smaller, spec, f"{channels} output channels use {used:.0%} of the output lanes", kept)


def _fewer_inputs(conv: Conv2d, spec: EngineSpec) -> tuple[float, str]:
    channels = conv.input[2]
    kept = channels - channels % spec.input_lanes
    if conv.depthwise or kept == channels:
        return 1.0, ""
    used = _input_use(conv, spec)
    text = f"{channels} input channels use {used:.0%} of the input lanes"
    if not kept:
        return 1 / used, f"{text}: more would be free"
    return _gain(conv, Conv2d((*conv.input[:2], kept), conv.output, conv.window), spec, text, kept)


def _input_use(conv: Conv2d, spec: EngineSpec) -> float:
    """Share of the input lanes that have a product to form, in the fold that leaves the fewest idle."""
    channels, taps = conv.input[2], conv.window.taps
    steps = min(ceil_div(channels, c) * ceil_div(taps, t) for c, t in spec.array_folds)
    return channels * taps / (steps * spec.input_lanes * spec.step_cycles)


def _block(conv: Conv2d, spec: EngineSpec) -> tuple[int, int, int]:
    """The micro-block that covers the output with the least beyond it."""

    def covered(block: tuple[int, int, int]) -> int:
        return prod(ceil_div(extent, step) * step for extent, step in zip(conv.output, block, strict=True))

    return min(spec.array_blocks, key=covered)


def _taller(conv: Conv2d, spec: EngineSpec) -> tuple[float, str]:
    """Maps that do not fill the micro-blocks of positions."""
    (rows, cols, _), (high, wide, _) = conv.output, _block(conv, spec)
    gain = ceil_div(rows, high) * high * ceil_div(cols, wide) * wide / (rows * cols)
    return (
        gain,
        f"a {rows}x{cols} map fills {1 / gain:.0%} of its {high}x{wide} blocks: up to {gain:.1f}x in a size that fits",
    )


def _gain(conv: Conv2d, smaller: Conv2d, spec: EngineSpec, text: str, kept: int) -> tuple[float, str]:
    gain = _cycles(conv, spec) / _cycles(smaller, spec)
    return gain, f"{text}: {kept} would be {gain:.1f}x faster"


def _cycles(conv: Conv2d, spec: EngineSpec) -> float:
    rows, cols, channels = conv.output
    w = conv.window
    work = conv_work(
        spec, rows, cols, channels, conv.input[2], w.kernel_h, w.kernel_w,
        depthwise=conv.depthwise, residual=False, stride=(w.stride_h, w.stride_w), elements=elements(conv),
    )  # fmt: skip
    return work.array


def _memory(step: PlannedStep, report: SubgraphReport, spec: EngineSpec) -> str:
    moved = report.dram_read_bytes + report.dram_write_bytes
    if 2 * report.weight_bytes > moved:
        size = format_bytes(report.weight_bytes)
        return f"reads {size} of weights at {spec.dram_bytes_per_cycle:g} bytes per cycle: fewer channels"
    where = "a smaller map or fewer channels would stay in SRAM" if step.subgraph.streams else "fewer channels"
    return f"moves {format_bytes(moved)}, mostly maps, through DRAM: {where}"
