"""Closed-form work of a convolution: folds and micro-blocks are chosen by fewest cycles, and never cost anything."""

from __future__ import annotations

from dataclasses import replace

from engine_programs import SPEC
from hypothesis import given
from hypothesis import strategies as st

from lanefit.targets.cost import Work, conv_work
from lanefit.targets.spec import EngineSpec

BROAD = replace(
    SPEC, input_lanes=16, output_lanes=16, sram_bytes_per_cycle=1e6, output_elements_per_cycle=1e6,
    weight_bytes_per_cycle=1e6,
)  # fmt: skip
FOLDS = ((16, 1), (8, 2), (4, 4))
BLOCKS = ((1, 1, 16), (1, 2, 8), (2, 2, 4))
extents = st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 80), st.integers(1, 80))


def dense(spec: EngineSpec, rows: int, cols: int, channels: int, inputs: int, kernel: int = 3) -> Work:
    return conv_work(spec, rows, cols, channels, inputs, kernel, kernel, depthwise=False, residual=False)


def test_an_image_uses_more_lanes_by_folding_taps() -> None:
    assert dense(BROAD, 8, 8, 16, 3).array == 8 * 8 * 9
    assert (
        dense(replace(BROAD, folds=FOLDS), 8, 8, 16, 3).array == 8 * 8 * 3
    )  # nine taps by four, three of four channels


def test_few_outputs_use_more_lanes_by_blocks_of_positions() -> None:
    blocks = replace(BROAD, micro_blocks=BLOCKS)
    assert dense(BROAD, 8, 8, 4, 16).array == 8 * 8 * 9
    assert dense(blocks, 8, 8, 4, 16).array == 4 * 4 * 9
    assert dense(blocks, 8, 8, 24, 16).array == 8 * 4 * 3 * 9  # three blocks of 1x2x8 instead of two of 1x1x16


def test_a_block_of_positions_is_not_taken_where_the_sram_cannot_feed_it() -> None:
    narrow = replace(BROAD, micro_blocks=BLOCKS, sram_bytes_per_cycle=16)
    assert dense(narrow, 8, 8, 24, 16, 1) == dense(replace(narrow, micro_blocks=()), 8, 8, 24, 16, 1)


@given(extents, st.sampled_from([1, 3, 5]), st.booleans(), st.booleans())
def test_more_choices_never_cost_more(
    extent: tuple[int, int, int, int], kernel: int, depthwise: bool, residual: bool
) -> None:
    rich = replace(SPEC, input_lanes=16, output_lanes=16)
    choices = [rich, replace(rich, folds=FOLDS), replace(rich, folds=FOLDS, micro_blocks=BLOCKS)]
    cycles = [
        conv_work(spec, *extent, kernel, kernel, depthwise=depthwise, residual=residual).cycles for spec in choices
    ]
    assert cycles == sorted(cycles, reverse=True)


@given(extents, st.sampled_from([1, 3, 5]), st.booleans())
def test_no_choice_beats_the_multipliers(extent: tuple[int, int, int, int], kernel: int, depthwise: bool) -> None:
    spec = replace(BROAD, folds=FOLDS, micro_blocks=BLOCKS)
    rows, cols, channels, channels_in = extent
    inputs = 1 if depthwise else channels_in
    work = conv_work(spec, rows, cols, channels, inputs, kernel, kernel, depthwise=depthwise, residual=False)
    assert work.array * spec.parallelism >= rows * cols * channels * inputs * kernel * kernel
