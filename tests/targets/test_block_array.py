"""The block dataflow: laws of its cycles and of the search for blocks, and Arm's tables where they are at hand."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanefit.common.errors import SpecError
from lanefit.targets.block_array import Block, Layer, Traversal, block_cost, traversal
from lanefit.targets.block_search import find_block
from lanefit.targets.cost import Elements, conv_work, matmul_work, pool_work, vector_work
from lanefit.targets.isa import DType
from lanefit.targets.spec import EngineSpec, load_spec

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "engine"))
from vela_layers import alignment
from vela_tables import judge, read_layers

TABLES = Path(os.environ.get("LANEFIT_REFERENCE", Path(__file__).parents[3] / "shared" / "golden")) / "npu"
needs_tables = pytest.mark.skipif(not TABLES.is_dir(), reason=f"no reference tables at {TABLES}")
U55 = [load_spec(f"ethos-u55-{macs}") for macs in (32, 64, 128, 256)]
U55_128 = U55[2]
specs = st.sampled_from([*U55, load_spec("ethos-u65-512")])
sizes = st.integers(1, 48)


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    kind = draw(st.sampled_from(["dense", "depthwise", "pooling"]))
    channels = draw(st.integers(1, 200))
    kernel = draw(st.sampled_from([(1, 1), (3, 3), (5, 5), (7, 7), (1, 9), (10, 4)]))
    stride = draw(st.sampled_from([(1, 1), (2, 2), (1, 2)]))
    inputs = draw(st.integers(1, 200)) if kind == "dense" else channels
    return Layer(
        draw(sizes), draw(sizes), channels, inputs, kernel, stride,
        depthwise=kind == "depthwise", pooling=kind == "pooling", maximum=draw(st.booleans()),
    )  # fmt: skip


def test_one_block_by_hand() -> None:
    layer = Layer(8, 8, 16, 32, (3, 3), input=(8, 8))
    cost = block_cost(U55_128, layer, Block(8, 8, 16, 32))
    mac = 4 * (8 * 4) * 9 * 2  # four cycles for each of 8 x 4 micro-blocks, nine taps, two groups of eight channels
    output = 8 * 8 * 16 / 2
    assert cost.mac == mac + output
    assert cost.output == output + mac
    assert cost.command == (mac + output) / 4  # longer than the output stage: the engine awaits its commands
    fetch, store = 8 * 8 * 32 / 8, 8 * 8 * 16 / 8
    assert cost.engine == mac + cost.command + fetch + store + 2 * 32
    assert (cost.map_bytes, cost.plane_blocks) == (8 * 8 * 32 + 8 * 8 * 16, 1)


def test_a_vector_is_held_by_the_feed_of_weights() -> None:
    cost = block_cost(U55_128, Layer(1, 1, 128, 64, input=(1, 1)), Block(1, 2, 128, 32))
    assert (
        cost.mac == 2 * 16 * 32 + 10 * 128 * 32 / 256
    )  # two input blocks, 16 groups, 256 bytes at 8 per cycle; biases


def test_images_and_filled_taps_are_traversed_by_parts_of_the_kernel() -> None:
    assert traversal(U55_128, Layer(8, 8, 8, 3, (3, 3))) is Traversal.PART_KERNEL
    assert traversal(U55_128, Layer(8, 8, 8, 16, (3, 3))) is Traversal.PART_KERNEL
    assert traversal(U55_128, Layer(8, 8, 8, 32, (3, 3))) is Traversal.DEPTH_FIRST
    assert traversal(U55_128, Layer(8, 8, 8, 16, (1, 1))) is Traversal.DEPTH_FIRST


@given(layers(), specs)
def test_the_block_found_fits_and_covers_whole_micro_blocks(layer: Layer, spec: EngineSpec) -> None:
    block = find_block(spec, layer)
    high, wide, deep = spec.array_blocks[0]
    assert block.rows % high == block.cols % wide == block.channels % deep == 0
    assert block.rows < layer.rows + high
    assert block.cols < layer.cols + wide
    assert block.channels < layer.channels + max(deep, spec.block_c_step)
    sums = 2 * 4 * block.rows * block.cols * block.channels
    assert sums <= spec.buffer_banks * spec.buffer_bank_bytes


@given(layers(), specs)
def test_no_layer_beats_the_multipliers_or_the_output_stage(layer: Layer, spec: EngineSpec) -> None:
    cost = block_cost(spec, layer, find_block(spec, layer))
    taps, depth = layer.kernel[0] * layer.kernel[1], 1 if layer.equal_depth else layer.channels_in
    products = 0 if layer.pooling else layer.outputs * taps * depth
    assert cost.mac * spec.parallelism >= products * (1 - 1e-9)
    assert cost.engine >= max(cost.mac, cost.output) * (1 - 1e-9)
    assert cost.output * spec.pool_elements_per_cycle >= layer.outputs * (1 - 1e-9)
    assert cost.map_bytes >= layer.outputs


@given(layers(), specs, st.sampled_from(["rows", "cols"]))
def test_more_of_a_map_never_takes_less_time_in_the_same_block(layer: Layer, spec: EngineSpec, side: str) -> None:
    block = find_block(spec, layer)
    larger = replace(layer, **{side: getattr(layer, side) + block.rows * block.cols})
    assert block_cost(spec, larger, block).mac >= block_cost(spec, layer, block).mac * (1 - 1e-9)


@given(layers(), specs)
def test_a_slower_memory_never_shortens_a_layer(layer: Layer, spec: EngineSpec) -> None:
    slow = replace(spec, sram_bytes_per_cycle=spec.sram_bytes_per_cycle / 2, dram_bytes_per_cycle=0.5)
    slow = replace(slow, sram_latency_cycles=64)
    block = find_block(spec, layer)
    assert find_block(slow, layer) == block
    assert block_cost(slow, layer, block).engine >= block_cost(spec, layer, block).engine * (1 - 1e-9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"buffer_banks": 16}, "buffer_banks 16 hold less than the smallest block, 20"),
        ({"block_w": 256}, "exceeds 4096 positions or 64 steps"),
        ({"block_c": 2048}, "exceeds 4096 positions or 64 steps"),
        ({"folds": ((32, 1),) * 17}, "folds lists 17 choices, at most 16 are tried"),
    ],
)
def test_blocks_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        replace(U55_128, **changes)


@given(specs, st.integers(1, 2**31), st.integers(1, 2**16), st.integers(1, 2**31), st.sampled_from([1, 2]))
def test_extents_of_any_size_have_a_block_and_a_cost(
    spec: EngineSpec, extent: int, kernel: int, stride: int, width: int
) -> None:
    layer = Layer(extent, extent, extent, extent, (kernel, kernel), (stride, stride), in_bytes=width)
    for found in (layer, replace(layer, depthwise=True), replace(layer, pooling=True)):
        assert 0 < block_cost(spec, found, find_block(spec, found)).engine < float("inf")


def test_wide_inputs_take_twice_the_cycles() -> None:
    wide = Elements(DType.INT16, DType.INT8, DType.INT16)
    narrow = conv_work(U55_128, 16, 16, 32, 32, 3, 3, depthwise=False, residual=False)
    assert conv_work(U55_128, 16, 16, 32, 32, 3, 3, depthwise=False, residual=False, elements=wide).array > (
        1.9 * narrow.array
    )


def test_a_residual_costs_a_pass_of_its_own() -> None:
    plain, added = (conv_work(U55_128, 16, 16, 32, 32, 3, 3, depthwise=False, residual=r) for r in (False, True))
    assert added.cycles - plain.cycles == pytest.approx(16 * 16 * 32 * 1.5)


def test_a_product_of_activations_costs_as_much_per_group_as_a_pointwise_convolution() -> None:
    conv = conv_work(U55_128, 64, 1, 32, 48, 1, 1, depthwise=False, residual=False)
    product = matmul_work(U55_128, 3, 64, 32, 48, bias=False, elements=Elements())
    assert product.array == pytest.approx(3 * conv.array)


def test_pooling_runs_on_the_array_only_where_it_can() -> None:
    extent, kernel = (8, 8, 64), (3, 3)
    lanes = load_spec("ne-256")
    assert pool_work(lanes, extent, kernel, kernel, maximum=True) == vector_work(lanes, 8 * 8 * 64, 9)
    assert pool_work(U55_128, extent, kernel, kernel, maximum=True).vector >= 8 * 8 * 64 * 9 / 4


@needs_tables
def test_every_row_of_the_tables_is_met_to_the_cycle_and_our_blocks_to_two_per_cent() -> None:
    judged = [judge(row) for row in read_layers(TABLES / "vela_per_layer_blockcfg.csv")]
    assert len(judged) > 400
    assert all(item.exact for item in judged)
    assert fmean(abs(item.error) for item in judged) < 0.02


@needs_tables
def test_every_cliff_of_the_channel_staircase_is_there() -> None:
    found = alignment(TABLES / "vela_channel_alignment.csv")
    assert found["alignment_spearman"] > 0.999
    assert len(found["cliffs"]) == 27
    assert all(cliff["present"] for cliff in found["cliffs"])
