"""LOGSUM against one Python integer at a time."""

import math

import numpy as np
import pytest
from engine_programs import Layout, one_instruction, rescale, view
from hypothesis import given
from hypothesis import strategies as st
from test_emulator_function import exponentials

from lanefit.targets.emulator import Emulator
from lanefit.targets.isa import Opcode

LEAST = -(2**15)


def log2_bits(value: int) -> int:
    whole = value.bit_length() - 1
    mantissa, found = value << (30 - whole), whole
    for _ in range(15):
        mantissa = (mantissa * mantissa) >> 30
        found = 2 * found + (mantissa >> 31)
        mantissa >>= mantissa >> 31
    return found


def logsum(row: list[int], table: bytes, multiplier: int, shift: int) -> int:
    powers, kept = np.frombuffer(table, "<i2").tolist(), [v for v in row if v != LEAST]
    if not kept:
        return LEAST
    total = sum((powers[(max(kept) - v) >> 8] * powers[256 + ((max(kept) - v) & 255)] + 2**14) >> 15 for v in kept)
    found = max(kept) + rescale(log2_bits(total) - 15 * 2**15, multiplier, shift)
    return min(max(found, LEAST + 1), 2**15 - 1)


def run(x: np.ndarray, groups: int, table: bytes, scale: tuple[int, int]) -> np.ndarray:
    rows, cols, channels = x.shape
    layout = Layout()
    address = layout.constant(table)
    source = layout.map("x", x.shape, dtype="int16")
    built = one_instruction(
        layout, Opcode.LOGSUM, (rows, cols, groups), "int16", **view("in", source), in_rows=rows, in_cols=cols,
        channels_in=channels // groups, table_addr=address, multiplier=scale[0], shift=scale[1],
        act_min=LEAST + 1, act_max=2**15 - 1,
    )  # fmt: skip
    return Emulator(built).run({"x": x})["y"]


@given(
    st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 3), st.integers(1, 20), st.sampled_from([1e-3, 0.01])
)
def test_a_logsum_follows_its_integer_definition(seed: int, rows: int, groups: int, count: int, unit: float) -> None:
    rng, table = np.random.default_rng(seed), exponentials(unit)
    x = rng.choice(np.array([LEAST, 2**15 - 1, *rng.integers(LEAST, 2**15, 6)]), (rows, 2, groups * count))
    found = run(x.astype(np.int16), groups, table, (1_500_000_001, 44))
    split = x.reshape(rows, 2, groups, count).tolist()
    expected = [[[logsum(part, table, 1_500_000_001, 44) for part in col] for col in row] for row in split]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("unit", [1e-3, 4e-3])
def test_a_logsum_is_the_logarithm_of_a_sum_of_exponentials(unit: float) -> None:
    x = np.random.default_rng(0).integers(-4000, 4000, (4, 4, 50)).astype(np.int16)
    multiplier = round(math.log(2) / 2**15 / unit * 2**36)
    found = run(x, 1, exponentials(unit), (multiplier, 36))[..., 0]
    exact = np.log(np.exp(x * unit).sum(-1)) / unit
    assert np.abs(found - exact).max() <= 1 + 0.005 / unit  # exponentials have 15 bits
