"""The logarithms of SOFTMAX_LOG against one Python integer at a time, and its shares against SOFTMAX."""

import math

import numpy as np
import pytest
from engine_programs import Layout, one_instruction, rescale, view
from hypothesis import given
from hypothesis import strategies as st
from test_emulator_function import exponentials

from lanefit.common.errors import ProgramFault
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


def run(x: np.ndarray, table: bytes, scale: tuple[int, int], *, shares: bool = False, **fields: int) -> np.ndarray:
    """The logarithms (rows, columns), or the shares, of x (rows, columns, logits)."""
    rows, cols, channels = x.shape
    layout = Layout()
    address = layout.constant(table)
    source = layout.map("x", x.shape, dtype="int16")
    spare = layout.sram
    layout.sram += 2 * (rows * cols if shares else x.size)
    opcode = Opcode.SOFTMAX_LOG
    common = {
        **view("in", source), "in_rows": rows, "in_cols": cols, "mode": 1, "table_addr": address, "multiplier": 2**30,
        "shift": 30, "act_min": 0, "act_max": 2**15 - 1, "log_multiplier": scale[0], "log_shift": scale[1],
        "chan_count": channels, "chan_limit": channels,
    }  # fmt: skip
    if shares:
        logs = {"log_addr": spare, "log_pitch_h": 2 * cols, "log_pitch_w": 2} | fields
        return Emulator(one_instruction(layout, opcode, x.shape, "int16", **common, **logs)).run({"x": x})["y"]
    logs = {"log_addr": layout.sram, "log_pitch_h": 2 * cols, "log_pitch_w": 2}
    out = {"out_addr": spare, "out_pitch_h": 2 * cols * channels, "out_pitch_w": 2 * channels}
    built = one_instruction(layout, opcode, (rows, cols, 1), "int16", **common, **logs, **out)
    return Emulator(built).run({"x": x})["y"][..., 0]


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 20), st.sampled_from([1e-3, 0.01]))
def test_logarithms_follow_their_integer_definition(seed: int, rows: int, count: int, unit: float) -> None:
    rng, table = np.random.default_rng(seed), exponentials(unit)
    x = rng.choice(np.array([LEAST, 2**15 - 1, *rng.integers(LEAST, 2**15, 6)]), (rows, 2, count)).astype(np.int16)
    expected = [[logsum(part, table, 1_500_000_001, 44) for part in row] for row in x.tolist()]
    np.testing.assert_array_equal(run(x, table, (1_500_000_001, 44)), expected)


@pytest.mark.parametrize("unit", [1e-3, 4e-3])
def test_a_logarithm_is_that_of_a_sum_of_exponentials(unit: float) -> None:
    x = np.random.default_rng(0).integers(-4000, 4000, (4, 4, 50)).astype(np.int16)
    multiplier = round(math.log(2) / 2**15 / unit * 2**36)
    found = run(x, exponentials(unit), (multiplier, 36))
    exact = np.log(np.exp(x * unit).sum(-1)) / unit
    assert np.abs(found - exact).max() <= 1 + 0.005 / unit  # exponentials have 15 bits


def test_shares_are_those_of_a_softmax() -> None:
    x = np.random.default_rng(1).integers(-4000, 4000, (3, 2, 17)).astype(np.int16)
    x[0, 0, 3], x[1, 1] = LEAST, LEAST
    found = run(x, exponentials(1e-3), (2**30, 40), shares=True)
    np.testing.assert_array_equal(found, softmax_of(x))


@pytest.mark.parametrize("where", ["the logits", "the shares"])
def test_logarithms_lie_apart(where: str) -> None:
    x = np.zeros((2, 2, 4), np.int16)
    layout = Layout()
    layout.constant(exponentials(1e-3))
    source = layout.map("x", x.shape, dtype="int16")
    address = source["addr"] if where == "the logits" else layout.sram
    with pytest.raises(ProgramFault, match="overlaps"):
        run(x, exponentials(1e-3), (2**30, 40), shares=True, log_addr=address + 2)


def softmax_of(x: np.ndarray) -> np.ndarray:
    """SOFTMAX of `isa` with masked logits, a row at a time."""
    powers = np.frombuffer(exponentials(1e-3), "<i2").astype(np.int64)
    found = np.zeros(x.shape, np.int64)
    for index in np.ndindex(x.shape[:2]):
        row = x[index].astype(np.int64)
        distance = np.where(row == LEAST, 0, row.max() - row)
        e = np.where(row == LEAST, 0, (powers[distance >> 8] * powers[256 + (distance & 255)] + 2**14) >> 15)
        found[index] = np.minimum((e * 2**15 + (e.sum() >> 1)) // max(1, int(e.sum())), 2**15 - 1)
    return found
