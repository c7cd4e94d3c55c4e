"""MATMUL against one Python integer, or one float32 operation, at a time."""

from typing import Any

import numpy as np
import pytest
from engine_programs import SPEC, Array, Fields, Layout, clamp, instruction, program, rescale, signal
from engine_programs import wait as wait_for
from hypothesis import given
from hypothesis import strategies as st

from lanefit.common.errors import ProgramFault
from lanefit.targets.cost import Elements, matmul_work
from lanefit.targets.elements import float_bits, rounded_to_bf16
from lanefit.targets.emulator import Emulator
from lanefit.targets.isa import DType, Opcode, Unit
from lanefit.targets.program import PORT_TYPES, Port, Program
from lanefit.targets.timing import simulate

MULTIPLIER, SHIFT = 3 << 12, 24
extents = st.integers(1, 5)
BOUNDS = {"int8": (-128, 127), "int16": (-(2**15), 2**15 - 1)}


def dense(prefix: str, counts: tuple[int, ...], size: int) -> Fields:
    """Pitches of a dense [g0][g1][row][element] operand."""
    _, g1, rows, row = counts
    return {f"{prefix}_pitch_g0": g1 * rows * row * size, f"{prefix}_pitch_g1": rows * row * size}


def matmul(a: Array, b: Array, bias: Array | None, types: tuple[str, str], out: str, **fields: int) -> Array:
    """Runs `a` (…, g0, g1, m, k) × `b` (…, g0, g1, n, k); leading axes are runs."""
    g0, g1, m, k = a.shape[-4:]
    n = b.shape[-2]
    layout = Layout()
    address = layout.constant(bias.tobytes()) if bias is not None else -1
    first, second = (
        layout.map(name, (1, 1, int(np.prod(x.shape[-4:]))), dtype=dtype)
        for name, x, dtype in zip("ab", (a, b), types, strict=True)
    )
    sizes = [PORT_TYPES[t].bytes for t in (*types, out)]
    f = {
        "in_addr": first["addr"],
        "in_type": first["type"],
        "in_pitch_m": k * sizes[0],
        **dense("in", a.shape[-4:], sizes[0]),
    }
    f |= {"b_addr": second["addr"], "b_type": second["type"], "b_pitch_n": k * sizes[1], "b_pitch_k": sizes[1]}
    f |= dense("b", b.shape[-4:], sizes[1])
    f |= {"out_addr": layout.sram, "out_pitch_m": n * sizes[2], **dense("out", (g0, g1, m, n), sizes[2])}
    f |= {"bias_addr": address, "bias_pitch_m": 4 * n, **dense("bias", (g0, g1, m, n), 4)}
    f |= {"g0_count": g0, "g1_count": g1, "m_count": m, "n_count": n, "k_count": k, "out_type": PORT_TYPES[out]}
    f |= {"multiplier": MULTIPLIER, "shift": SHIFT}
    built = _program(layout, (g0, g1, m, n), out, {**f, **fields})
    return Emulator(built).run({"a": a.reshape(*a.shape[:-4], 1, 1, -1), "b": b.reshape(*b.shape[:-4], 1, 1, -1)})["y"]


def _program(layout: Layout, shape: tuple[int, ...], out: str, f: Fields) -> Program:
    size = int(np.prod(shape)) * PORT_TYPES[out].bytes
    store = instruction(
        Opcode.STORE, dram_addr=layout.dram, sram_addr=layout.sram, count3=size, dram_stride3=1, sram_stride3=1
    )
    queues = {
        Unit.DMA_IN: [*layout.loads, signal(0)],
        Unit.ARRAY: [wait_for(0), instruction(Opcode.MATMUL, **f), signal(1)],
        Unit.DMA_OUT: [wait_for(1), store],
    }
    return program(
        queues, constants=layout.constants, inputs=layout.inputs,
        outputs=[Port("y", layout.dram, shape, 1.0, 0, out)], dram_bytes=layout.dram + size,
        sram_bytes=layout.sram + size,
    )  # fmt: skip


def integers(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> Array:
    low, high = BOUNDS[dtype]
    return rng.integers(low, high + 1, shape).astype(dtype)


@given(
    st.tuples(extents, extents, extents, extents, st.integers(1, 9)), st.sampled_from(["int8", "int16"]),
    st.sampled_from(["int8", "int16"]), st.booleans(), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_product_equals_its_definition(sizes: tuple[int, ...], first: str, out: str, biased: bool, seed: int) -> None:
    g0, g1, m, n, k = sizes
    rng = np.random.default_rng(seed)
    a, b = integers(rng, first, (2, g0, g1, m, k)), integers(rng, "int8", (2, g0, g1, n, k))
    zeros = [int(rng.integers(-128, 128)) if dtype == "int8" else 0 for dtype in (first, "int8", out)]
    bias = rng.integers(-9999, 9999, (g0, g1, m, n)).astype(np.int32) if biased else None
    low, high = BOUNDS[out]
    fields = {"in_zp": zeros[0], "b_zp": zeros[1], "out_zp": zeros[2], "act_min": low + 3, "act_max": high - 5}
    y = matmul(a, b, bias, (first, "int8"), out, **fields)
    for index in np.ndindex(y.shape):
        r, g, h, i, j = index
        pairs = zip(a[r, g, h, i], b[r, g, h, j], strict=True)
        total = sum((int(p) - zeros[0]) * (int(q) - zeros[1]) for p, q in pairs)
        total += 0 if bias is None else int(bias[g, h, i, j])
        assert y[index] == clamp(rescale(total, MULTIPLIER, SHIFT) + zeros[2], low + 3, high - 5)


@given(
    st.tuples(extents, extents, st.integers(1, 40), extents, st.integers(1, 30)),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_bf16_product_adds_in_ascending_order(sizes: tuple[int, ...], biased: bool, seed: int) -> None:
    g0, g1, m, n, k = sizes
    rng = np.random.default_rng(seed)
    scale = np.float32(10.0) ** rng.integers(-6, 6)
    a = rounded_to_bf16((rng.standard_normal((2, g0, g1, m, k)) * scale).astype(np.float32))
    b = rounded_to_bf16(rng.standard_normal((2, g0, g1, n, k)).astype(np.float32))
    bias = rng.standard_normal((g0, g1, m, n)).astype(np.float32) if biased else None
    clamps = {"act_min": float_bits(-3.0), "act_max": float_bits(4.0)}
    y = matmul(a, b, bias, ("bf16", "bf16"), "bf16", **clamps)
    index = tuple(int(rng.integers(0, extent)) for extent in y.shape)
    total = np.float32(0)
    for p, q in zip(a[index[:4]], b[(*index[:3], index[4])], strict=True):
        total = np.float32(total + np.float32(p * q))
    total = np.float32(total + (np.float32(0) if bias is None else bias[index[1:]]))
    expected = rounded_to_bf16(np.array([np.clip(total, np.float32(-3), np.float32(4))]))
    assert y[index] == expected[0]
    exact = np.einsum("rghmk,rghnk->rghmn", a.astype(float), b.astype(float)) + (0 if bias is None else bias)
    magnitude = np.einsum("rghmk,rghnk->rghmn", np.abs(a).astype(float), np.abs(b).astype(float))
    magnitude += 0 if bias is None else np.abs(bias)
    allowed = (k + 1) * 2.0**-23 * magnitude + 2.0**-8 * np.abs(exact) + 1e-37
    assert (np.abs(y - np.clip(exact, -3, 4)) <= allowed).all()


def test_a_transposed_operand_and_broadcast_bias_need_only_other_pitches() -> None:
    rng = np.random.default_rng(0)
    a, b = integers(rng, "int8", (2, 3, 4, 5)), integers(rng, "int8", (2, 3, 5, 6))  # b as [k][n]
    bias = rng.integers(-50, 50, 6).astype(np.int32)
    pitches = {"b_pitch_n": 1, "b_pitch_k": 6, "n_count": 6, "k_count": 5, "out_pitch_m": 6}
    out = {"out_pitch_g0": 3 * 4 * 6, "out_pitch_g1": 4 * 6}
    broadcast = {"bias_pitch_g0": 0, "bias_pitch_g1": 0, "bias_pitch_m": 0, "bias_addr": 0}
    layout_bias = np.broadcast_to(bias, (1, 6)).copy()
    y = _with_constant_bias(a, b, layout_bias, {**pitches, **out, **broadcast})
    sums = a.astype(int) @ b.astype(int) + bias
    np.testing.assert_array_equal(y, np.clip(rescale_array(sums), -128, 127))


def rescale_array(values: Array) -> Array:
    return np.vectorize(lambda v: rescale(int(v), MULTIPLIER, SHIFT))(values)


def _with_constant_bias(a: Array, b: Array, bias: Array, fields: Fields) -> Array:
    layout = Layout()
    layout.constant(bias.tobytes())
    first, second = (layout.map(name, (1, 1, x.size)) for name, x in (("a", a), ("b", b)))
    f: dict[str, Any] = {"in_addr": first["addr"], "in_pitch_m": a.shape[3], **dense("in", a.shape, 1)}
    f |= {"b_addr": second["addr"], **dense("b", b.shape, 1), "out_addr": layout.sram}
    f |= {"g0_count": a.shape[0], "g1_count": a.shape[1], "m_count": a.shape[2], "multiplier": MULTIPLIER}
    built = _program(layout, (*a.shape[:3], b.shape[3]), "int8", {**f, "shift": SHIFT, **fields})
    return Emulator(built).run({"a": a.reshape(1, 1, -1), "b": b.reshape(1, 1, -1)})["y"]


A, B = np.full((1, 1, 2, 4), 127, np.int8), np.full((1, 1, 3, 4), 127, np.int8)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"out_addr": 3}, r"output from SRAM byte 3 on overlaps an operand"),
        ({"out_pitch_m": 2}, "put two elements into one byte"),
        ({"b_addr": 65535}, "lie outside of 0"),
        ({"multiplier": 0}, "multiplier must be within 1"),
        ({"in_type": DType.BF16}, "MATMUL has no meaning for in_type, b_type, out_type = BF16 INT8 INT8"),
        ({"in_type": 9}, "in_type, b_type, out_type = 9 INT8 INT8"),
        ({"k_count": 0}, "k_count must be within 1"),
        ({"in_type": DType.INT16, "in_zp": 1, "in_pitch_m": 0}, "in_zp must be within 0..0"),
        ({"in_type": DType.INT16, "multiplier": 2**15}, "multiplier must be within 1..32767"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_faults(fields: Fields, message: str) -> None:
    with pytest.raises(ProgramFault, match=message):
        matmul(A, B, None, ("int8", "int8"), "int8", **fields)


def test_an_accumulator_beyond_int32_is_a_fault() -> None:
    bias = np.full((1, 1, 2, 3), 2**31 - 4 * 127**2, np.int32)
    matmul(A, B, bias - 1, ("int8", "int8"), "int8", multiplier=1, shift=30)
    with pytest.raises(ProgramFault, match=r"int32 accumulator overflows: it reaches 2147483648"):
        matmul(A, B, bias, ("int8", "int8"), "int8", multiplier=1, shift=30)


def test_groups_beyond_the_limit_are_not_written() -> None:
    rng = np.random.default_rng(1)
    a, b = integers(rng, "int8", (3, 1, 2, 4)), integers(rng, "int8", (3, 1, 2, 4))
    whole = matmul(a, b, None, ("int8", "int8"), "int8")
    clipped = matmul(a, b, None, ("int8", "int8"), "int8", g0_start=5, g0_count=3, g0_limit=7)
    np.testing.assert_array_equal(clipped[:2], whole[:2])
    assert not clipped[2:].any()


def test_no_rescale_gives_the_accumulators() -> None:
    layout = Layout()
    first, second = layout.map("a", (1, 1, 8)), layout.map("b", (1, 1, 12))
    f = {"in_addr": first["addr"], "b_addr": second["addr"], "in_pitch_m": 4, "b_pitch_n": 4, "b_pitch_k": 1}
    f |= {"m_count": 2, "n_count": 3, "k_count": 4, "out_addr": layout.sram, "out_pitch_m": 12}
    f |= {"out_type": DType.INT32, "act_min": -(2**31), "act_max": 2**31 - 1, "multiplier": 0, "shift": 0}
    built = _program(layout, (2, 12), "int8", f)
    y = Emulator(built).run({"a": A.reshape(1, 1, -1), "b": B.reshape(1, 1, -1)})["y"]
    np.testing.assert_array_equal(y.view("<i4"), np.full((2, 3), 4 * 127**2))


sizes = st.integers(1, 70)


@given(sizes, sizes, sizes, sizes, st.sampled_from([DType.INT8, DType.INT16, DType.BF16]))
def test_a_product_takes_no_less_than_its_peak_and_wider_elements_no_less_time(
    groups: int, m: int, n: int, k: int, kind: DType
) -> None:
    second = DType.BF16 if kind is DType.BF16 else DType.INT8
    work = matmul_work(SPEC, groups, m, n, k, bias=False, elements=Elements(kind, second, kind))
    narrow = matmul_work(SPEC, groups, m, n, k, bias=False, elements=Elements())
    rate = {DType.INT8: SPEC.int8_rate, DType.INT16: SPEC.int8x16_rate, DType.BF16: SPEC.bf16_rate}[kind]
    assert work.array >= groups * m * n * k / (SPEC.parallelism * rate) * (1 - 1e-12)
    assert work.cycles >= narrow.cycles


def test_the_cycle_model_counts_the_products() -> None:
    layout = Layout()
    first, second = layout.map("a", (1, 1, 2 * 8 * 16)), layout.map("b", (1, 1, 2 * 8 * 16))
    f = {"in_addr": first["addr"], "b_addr": second["addr"], "out_addr": layout.sram, "g0_count": 2, "g1_count": 1}
    f |= {"m_count": 8, "n_count": 8, "k_count": 16, "in_pitch_m": 16, "b_pitch_n": 16, "b_pitch_k": 1}
    timing = simulate(_program(layout, (2, 8, 8), "int8", {**f, "out_pitch_m": 8, "out_pitch_g0": 64}))
    assert timing.macs == 2 * 8 * 8 * 16
    assert timing.cycles > timing.macs / SPEC.parallelism
