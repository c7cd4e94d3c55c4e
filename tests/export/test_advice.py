"""Suggestions name what holds a subgraph, with figures that follow from its shapes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanefit.export.advice import advise
from lanefit.export.blank import with_zero_weights
from lanefit.export.compiler import Compiled, compile_graph
from lanefit.export.graph import Graph, Node, Tensor
from lanefit.kernels.ops import Add, Conv2d, Op, Pool2d, Window
from lanefit.targets.spec import EngineSpec, load_spec

SPEC = load_spec("ne-256")
FAST = replace(SPEC, dram_bytes_per_cycle=4096, dram_burst_bytes=1, sram_bytes_per_cycle=65536, sram_banks=4096)


def _compiled(op: Op, spec: EngineSpec = SPEC) -> Compiled:
    inputs = ("x", "y") if isinstance(op, Add) else ("x",)
    tensors = {name: Tensor(name, op.input, host_shape=op.input) for name in inputs}
    tensors["z"] = Tensor("z", op.output, host_shape=op.output)
    return compile_graph(with_zero_weights(Graph((Node("n", op, inputs, "z"),), tensors, inputs, ("z",))), spec)


def _advice(op: Op, spec: EngineSpec = SPEC) -> str:
    found = _compiled(op, spec)
    return advise(found.plan.steps[0], found.report[0], spec)


def _conv(inputs: int, outputs: int, size: int = 24, kernel: int = 3, *, depthwise: bool = False) -> Conv2d:
    window = Window(kernel, kernel, 1, 1, kernel // 2, kernel // 2)
    return Conv2d((size, size, inputs), (size, size, outputs), window, depthwise)


def test_a_channel_too_many_is_named_with_what_it_costs() -> None:
    assert _advice(_conv(32, 17), FAST) == "17 output channels use 85% of the output lanes: 16 would be 1.2x faster"
    coarse = replace(FAST, micro_blocks=())
    assert _advice(_conv(32, 17), coarse) == "17 output channels use 53% of the output lanes: 16 would be 2.0x faster"
    assert _advice(_conv(33, 64)) == "33 input channels use 74% of the input lanes: 32 would be 1.4x faster"
    plain = replace(SPEC, folds=())
    assert _advice(_conv(33, 64), plain) == "33 input channels use 69% of the input lanes: 32 would be 1.5x faster"


def test_empty_input_lanes_are_named() -> None:
    assert _advice(_conv(3, 32), FAST) == "3 input channels use 56% of the input lanes: more would be free"
    assert _advice(_conv(3, 32), replace(FAST, folds=())).startswith("3 input channels use 19% of the input lanes")


def test_full_lanes_leave_only_less_work() -> None:
    assert "well used" in _advice(_conv(32, 32))


def test_a_depthwise_convolution_is_told_of_fusing() -> None:
    assert "1 of 16 input lanes" in _advice(_conv(32, 32, depthwise=True), FAST)


def test_half_filled_positions_are_named() -> None:
    spec = replace(FAST, positions_h=4, positions_w=4, micro_blocks=(), accumulator_bytes=2**16)
    assert "5x5 map fills 39% of its 4x4 blocks" in _advice(_conv(256, 256, size=5), spec)


def test_weights_that_hold_the_memory_are_named() -> None:
    assert "of weights at 8 bytes per cycle" in _advice(Conv2d((1, 1, 512), (1, 1, 512), Window(1, 1)))


def test_maps_that_hold_the_memory_are_named() -> None:
    assert "through DRAM" in _advice(_conv(16, 16, size=64, kernel=1))


def test_the_output_stage_and_the_vector_unit_are_named() -> None:
    assert "pass the output stage at 8 per cycle" in _advice(_conv(8, 64, kernel=1), FAST)
    pool = Pool2d((32, 32, 32), (1, 1, 32), Window(32, 32, 32, 32), maximum=False)
    assert "vector unit takes 16" in _advice(pool, FAST)


def test_a_tiny_step_is_told_that_it_waits() -> None:
    assert "mostly waiting" in _advice(Conv2d((1, 1, 4), (1, 1, 4), Window(1, 1)))


@pytest.mark.parametrize("depthwise", [False, True])
@given(channels=st.integers(1, 80), size=st.integers(1, 20))
def test_every_subgraph_gets_one_sentence(depthwise: bool, channels: int, size: int) -> None:
    text = _advice(_conv(channels, channels, size, depthwise=depthwise))
    assert text
    assert "\n" not in text
