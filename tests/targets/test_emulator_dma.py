"""LOAD and STORE: strides, clipping and layout changes."""

import numpy as np
import pytest
from engine_programs import Array, Fields, Triple, instruction, program, signal, wait
from hypothesis import given
from hypothesis import strategies as st

from lanefit.common.errors import ProgramFault
from lanefit.targets.emulator import Emulator
from lanefit.targets.isa import Opcode, Unit
from lanefit.targets.program import Port


def copy(
    load: Fields,
    store: Fields,
    x: Array,
    out_bytes: int,
    *,
    constants: bytes = b"",
    sram_bytes: int = 256,
    order: str = "program",
    seed: int = 0,
) -> Array:
    """Input → SRAM by `load`, SRAM → output by `store`; the output starts after the input."""
    base = len(constants)
    built = program(
        {
            Unit.DMA_IN: [instruction(Opcode.LOAD, **load), signal(0)],
            Unit.DMA_OUT: [wait(0), instruction(Opcode.STORE, **store)],
        },
        constants=constants, inputs=[Port("x", base, x.shape, 1.0, 0)], sram_bytes=sram_bytes,
        outputs=[Port("y", base + x.size, (out_bytes,), 1.0, 0)], dram_bytes=base + x.size + out_bytes,
    )  # fmt: skip
    return Emulator(built, order=order, seed=seed).run({"x": x})["y"]


def test_channels_move_to_the_innermost_place() -> None:
    """(C, H, W) in DRAM becomes [row][column][channel] in SRAM."""
    x = np.arange(24, dtype=np.int8).reshape(2, 3, 4)
    load = {
        "count0": 3, "count1": 2, "count2": 4, "dram_stride0": 4, "dram_stride1": 12, "dram_stride2": 1,
        "sram_stride0": 8, "sram_stride1": 1, "sram_stride2": 2,
    }  # fmt: skip
    y = copy(load, {"dram_addr": 24, "count3": 24, "dram_stride3": 1, "sram_stride3": 1}, x, 24)
    np.testing.assert_array_equal(y.reshape(3, 4, 2), x.transpose(1, 2, 0))


@given(st.tuples(*[st.integers(-3, 4)] * 3), st.tuples(*[st.integers(0, 4)] * 3), st.booleans())
def test_clipped_elements_are_left_alone(origins: Triple, limits: Triple, storing: bool) -> None:
    """Element (i, j, k) moves when 0 <= origin + index < limit in every dimension; addresses follow the origin."""
    counts, strides = (3, 2, 4), (16, 4, 1)
    x = np.arange(1, 65, dtype=np.int8)
    clip = {f"origin{d}": origins[d] for d in range(3)} | {f"limit{d}": limits[d] for d in range(3)}
    clip |= {f"count{d}": counts[d] for d in range(3)}
    clip |= {f"dram_stride{d}": strides[d] for d in range(3)} | {
        "sram_stride0": 8,
        "sram_stride1": 4,
        "sram_stride2": 1,
    }
    whole = {"count3": 64, "dram_stride3": 1, "sram_stride3": 1}
    expected = np.zeros(64, np.int8)
    for index in np.ndindex(*counts):
        at = tuple(o + i for o, i in zip(origins, index, strict=True))
        if all(0 <= a < limit for a, limit in zip(at, limits, strict=True)):
            outside = sum(a * s for a, s in zip(at, strides, strict=True))
            inside = index[0] * 8 + index[1] * 4 + index[2]
            source, target = (inside, outside) if storing else (outside, inside)
            expected[target] = x[source]
    y = copy(whole, {**clip, "dram_addr": 64}, x, 64) if storing else copy(clip, {**whole, "dram_addr": 64}, x, 64)
    np.testing.assert_array_equal(y, expected)


def test_constants_are_read_only() -> None:
    store = {"dram_addr": 7, "count3": 4, "dram_stride3": 1, "sram_stride3": 1}
    with pytest.raises(ProgramFault, match="STORE to DRAM byte 7, inside of the 8 bytes of constants"):
        copy({}, store, np.zeros(4, np.int8), 4, constants=bytes(8))


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (
            {"sram_addr": 250, "count3": 7, "dram_stride3": 1, "sram_stride3": 1},
            r"SRAM bytes 250\.\.256 lie outside of 0\.\.255",
        ),
        ({"sram_addr": 2, "count3": 4, "dram_stride3": 1, "sram_stride3": -1}, r"SRAM bytes -1\.\.2 lie outside"),
        ({"dram_addr": -1, "count3": 2, "dram_stride3": 1, "sram_stride3": 1}, r"DRAM bytes -1\.\.0 lie outside"),
        (
            {"dram_addr": 15, "count3": 3, "dram_stride3": 1, "sram_stride3": 1},
            r"DRAM bytes 15\.\.17 lie outside of 0\.\.15",
        ),
        ({"count3": 2, "dram_stride3": 1}, "two elements share one byte of SRAM"),
        ({"count3": 2**31 - 1}, "2147483647 elements do not fit the 256 bytes of SRAM"),
        ({"count0": -1}, r"count0 must be within 0\.\.2147483647 in LOAD, got -1"),
    ],
    ids=["sram-end", "sram-start", "dram-start", "dram-end", "overlap", "huge", "negative"],
)
def test_bad_transfers_name_unit_instruction_and_address(load: Fields, message: str) -> None:
    with pytest.raises(ProgramFault, match=message) as caught:
        copy(load, {"dram_addr": 8, "count0": 0}, np.zeros(8, np.int8), 8)
    assert "DMA_IN instruction 0" in str(caught.value)


def test_descending_strides_reverse() -> None:
    x = np.arange(8, dtype=np.int8)
    load = {"sram_addr": 7, "count3": 8, "dram_stride3": 1, "sram_stride3": -1}
    y = copy(load, {"dram_addr": 8, "count3": 8, "dram_stride3": 1, "sram_stride3": 1}, x, 8)
    np.testing.assert_array_equal(y, x[::-1])


def test_random_order_reveals_reads_of_memory_that_nobody_wrote() -> None:
    store = {"dram_addr": 8, "sram_addr": 100, "count3": 8, "dram_stride3": 1, "sram_stride3": 1}
    results = {copy({}, store, np.zeros(8, np.int8), 8, order="random", seed=s).tobytes() for s in range(2)}
    assert len(results) == 2
