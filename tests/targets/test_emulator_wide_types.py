"""TABLE, REDUCE and RESIZE on INT16 and BF16 elements, against one Python number at a time."""

import math

import numpy as np
import pytest
from engine_programs import clamp, rescale
from hypothesis import given
from hypothesis import strategies as st
from test_emulator_function_types import FREE, SHAPE, draw_bf16, draw_int16, ordered_sum, run, seeds, single

from lanefit.common.errors import ProgramFault
from lanefit.targets.elements import float_bits, rounded_to_bf16
from lanefit.targets.isa import Opcode, PoolMode, ResizeMode
from lanefit.targets.table_float import BINADES, TABLE_SIDE, FloatTable, table_inputs

HALF_BITS = float_bits(0.5)
INT16 = {"act_min": -32768, "act_max": 32767}
HALF = {"multiplier": 2**14, "shift": 15}
UPWARDS = {"scale_h_n": 4, "scale_h_d": 2, "offset_h": -1, "scale_w_n": 2, "scale_w_d": 1, "offset_w": 0}
LARGER = (4, 6, 8)


@given(seeds)
def test_a_table_of_int16_draws_straight_lines_between_its_points(seed: int) -> None:
    x = draw_int16(seed)
    points = np.random.default_rng(seed).integers(-16000, 16000, 513).astype("<i2")
    y = run(Opcode.TABLE, x, ("int16", "int16"), {"act_min": -15000, "act_max": 32767}, points.tobytes(), "table_addr")
    for place in np.ndindex(SHAPE):
        index, part = divmod(int(x[place]) + 2**15, 128)
        low, high = int(points[index]), int(points[index + 1])
        assert y[place] == clamp((low * 128 + (high - low) * part + 64) >> 7, -15000, 32767)


def sigmoid_table(exponent: int) -> FloatTable:
    inputs = table_inputs(exponent).astype(np.float64)
    lines = np.array([[0.5, 0.25], [1, 0], [0, 0]], single)
    return FloatTable(exponent, lines, rounded_to_bf16((1 / (1 + np.exp(-inputs))).astype(single)))


@given(seeds, st.sampled_from([112, 116, 120]))
def test_a_table_of_bf16_is_exact_inside_and_straight_outside(seed: int, exponent: int) -> None:
    x = draw_bf16(seed)
    x[0, 0, :3] = 0, math.inf, -math.inf
    y = run(Opcode.TABLE, x, ("bf16", "bf16"), FREE, sigmoid_table(exponent).as_bytes(), "table_addr")
    for place in np.ndindex(SHAPE):
        value = float(x[place])
        expected = 1 / (1 + math.exp(-value)) if math.isfinite(value) else float(value > 0)
        if abs(value) < 2.0 ** (exponent - 127):
            expected = 0.5 + 0.25 * value
        elif abs(value) >= 2.0 ** (exponent - 127 + BINADES):
            expected = float(value > 0)
        assert y[place] == rounded_to_bf16(np.array([expected], single))[0]


def test_a_table_of_bf16_gives_nan_for_nan() -> None:
    x = np.full(SHAPE, np.nan, single)
    assert np.isnan(run(Opcode.TABLE, x, ("bf16", "bf16"), FREE, sigmoid_table(116).as_bytes(), "table_addr")).all()


@pytest.mark.parametrize("exponent", [0, 240])
def test_a_table_of_bf16_lies_among_its_binades(exponent: int) -> None:
    table = FloatTable(exponent, np.zeros((3, 2), single), np.zeros(2 * TABLE_SIDE, single))
    with pytest.raises(ProgramFault, match="begins at exponent"):
        run(Opcode.TABLE, np.zeros(SHAPE, single), ("bf16", "bf16"), FREE, table.as_bytes(), "table_addr")


@given(seeds, st.sampled_from(PoolMode))
def test_reductions_of_int16_and_of_bf16(seed: int, mode: PoolMode) -> None:
    fields = {"mode": mode, "channels_in": 4, "in_rows": SHAPE[0], "in_cols": SHAPE[1]}
    wide, floats, shape = draw_int16(seed), draw_bf16(seed), (*SHAPE[:2], 2)
    factor = single(1 / 4)
    y = run_onto(Opcode.REDUCE, wide, shape, "int16", {**fields, **INT16, **HALF})
    z = run_onto(Opcode.REDUCE, floats, shape, "bf16", {**fields, **FREE, "multiplier": kept(mode, factor)})
    for r, c, k in np.ndindex(shape):
        part, reals = wide[r, c, 4 * k : 4 * k + 4].tolist(), floats[r, c, 4 * k : 4 * k + 4]
        total = max(part) if mode == PoolMode.MAX else sum(part)
        assert y[r, c, k] == clamp(rescale(total, **HALF), -32768, 32767)
        real = reals.max() if mode == PoolMode.MAX else single(ordered_sum(list(reals)) * factor)
        assert z[r, c, k] == rounded_to_bf16(np.array([real], single))[0]


@given(seeds)
def test_bilinear_resizes_of_int16_and_of_bf16(seed: int) -> None:
    fields = {"mode": ResizeMode.BILINEAR, **UPWARDS}
    wide, floats, eighth = draw_int16(seed), draw_bf16(seed), single(1 / 8)
    y = run_onto(Opcode.RESIZE, wide, LARGER, "int16", {**fields, **INT16, "multiplier": 2**14, "shift": 17})
    z = run_onto(Opcode.RESIZE, floats, LARGER, "bf16", {**fields, **FREE, "multiplier": float_bits(float(eighth))})
    for r, c, k in np.ndindex(LARGER):
        (top, bottom, down), (left, right, across) = near(r, 4, 2, -1, 2), near(c, 2, 1, 0, 3)
        sides = [int(wide[top, q, k]) * (4 - down) + int(wide[bottom, q, k]) * down for q in (left, right)]
        total = sides[0] * (2 - across) + sides[1] * across
        assert y[r, c, k] == clamp(rescale(total, 2**14, 17), -32768, 32767)
        lines = [floats[top, q, k] * single(4 - down) + floats[bottom, q, k] * single(down) for q in (left, right)]
        real = (lines[0] * single(2 - across) + lines[1] * single(across)) * eighth
        assert z[r, c, k] == rounded_to_bf16(np.array([real], single))[0]


@pytest.mark.parametrize("dtype", ["int16", "bf16"])
def test_the_nearest_element_keeps_its_bits(dtype: str) -> None:
    x = draw_int16(1) if dtype == "int16" else draw_bf16(1)
    limits = INT16 if dtype == "int16" else FREE
    y = run_onto(Opcode.RESIZE, x, LARGER, dtype, {"mode": ResizeMode.NEAREST, "multiplier": 0, **UPWARDS, **limits})
    for r, c in np.ndindex(LARGER[:2]):
        (top, bottom, down), (left, right, across) = near(r, 4, 2, -1, 2), near(c, 2, 1, 0, 3)
        source = x[bottom if 2 * down >= 4 else top, right if 2 * across >= 2 else left]
        np.testing.assert_array_equal(y[r, c], source)


def run_onto(opcode: Opcode, x: np.ndarray, shape: tuple[int, int, int], dtype: str, fields: dict) -> np.ndarray:
    return run(opcode, x, (dtype, dtype), fields, b"", "", shape)


def kept(mode: PoolMode, factor: np.float32) -> int:
    """A maximum keeps its scale."""
    return 0 if mode == PoolMode.MAX else float_bits(float(factor))


def near(position: int, numerator: int, denominator: int, offset: int, size: int) -> tuple[int, int, int]:
    low, part = divmod(position * denominator + offset, numerator)
    return min(max(low, 0), size - 1), min(max(low + 1, 0), size - 1), part


def test_averages_of_infinities_are_values_and_no_warnings() -> None:
    x = draw_bf16(1)
    x[0, 0], x[1, 0] = math.inf, -math.inf
    fields = {"kernel_h": 2, "kernel_w": 1, "stride_h": 1, "stride_w": 1, "mode": PoolMode.SUM, "multiplier": HALF_BITS}
    y = run_onto(Opcode.POOL, x, (1, 3, 8), "bf16", {**fields, **FREE})
    assert np.isnan(y[0, 0]).all()
    assert np.isfinite(y[0, 1:]).all()
