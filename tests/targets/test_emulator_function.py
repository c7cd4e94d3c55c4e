"""TABLE, MUL, SOFTMAX, NORM, REDUCE and RESIZE against one Python integer at a time."""

import math
from fractions import Fraction

import numpy as np
import pytest
from engine_programs import Array, Fields, Layout, Shape, clamp, each, one_instruction, rescale, view
from hypothesis import given
from hypothesis import strategies as st

from lanefit.common.errors import ProgramFault
from lanefit.targets.emulator import Emulator
from lanefit.targets.functions import reciprocal_root
from lanefit.targets.isa import NormMode, Opcode, PoolMode, ResizeMode, SoftmaxMode

int8s = st.integers(-128, 127)
seeds = st.integers(0, 2**32 - 1)
maps = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 9))


def draw_map(seed: int, shape: Shape) -> Array:
    rng = np.random.default_rng(seed)
    low, high = sorted(rng.integers(-128, 128, 2))
    return rng.integers(low, high + 1, shape).astype(np.int8)


def run_one(opcode: Opcode, x: Array, shape: Shape, fields: Fields, constants: bytes = b"", at: str = "") -> Array:
    """The output of one instruction on `x`; `at` is the field that gets the address of the constants."""
    layout = Layout()
    address = {at: layout.constant(constants)} if at else {}
    source = layout.map("x", x.shape, gap=2)
    size = {"in_rows": x.shape[0], "in_cols": x.shape[1]}
    built = one_instruction(layout, opcode, shape, **{**size, **view("in", source), **address, **fields})
    return Emulator(built).run({"x": x})["y"]


@given(seeds, maps, int8s, int8s)
def test_a_table_maps_every_element_and_clamps(seed: int, shape: Shape, a: int, b: int) -> None:
    table = np.random.default_rng(seed).integers(-128, 128, 256).astype(np.int8)
    x, low, high = draw_map(seed + 1, shape), min(a, b), max(a, b)
    y = run_one(Opcode.TABLE, x, shape, {"act_min": low, "act_max": high}, table.tobytes(), "table_addr")
    expected = each(shape, lambda r, c, k: clamp(int(table[int(x[r, c, k]) + 128]), low, high))
    np.testing.assert_array_equal(y, expected)


@given(seeds, maps, int8s, int8s, int8s, st.booleans())
def test_a_product_is_rescaled_once_and_broadcasts_by_pitch_zero(
    seed: int, shape: Shape, za: int, zb: int, zo: int, gate: bool
) -> None:
    layout = Layout()
    other = (1, 1, shape[2]) if gate else shape
    a_view, b_view = layout.map("a", shape, gap=1), layout.map("b", other)
    b_view |= {"pitch_h": 0, "pitch_w": 0} if gate else {}
    built = one_instruction(
        layout, Opcode.MUL, shape, **view("in", a_view), **view("b", b_view), in_zp=za, b_zp=zb, out_zp=zo,
        multiplier=1_500_000_001, shift=36, in_rows=shape[0], in_cols=shape[1], act_min=-125,
    )  # fmt: skip
    a, b = draw_map(seed, shape), draw_map(seed + 1, other)
    wide = np.broadcast_to(b, shape)

    def element(r: int, c: int, k: int) -> int:
        product = (int(a[r, c, k]) - za) * (int(wide[r, c, k]) - zb)
        return clamp(rescale(product, 1_500_000_001, 36) + zo, -125, 127)

    np.testing.assert_array_equal(Emulator(built).run({"a": a, "b": b})["y"], each(shape, element))


def exponentials(scale: float) -> bytes:
    coarse = [min(32767, round(math.exp(-256 * i * scale) * 32768)) for i in range(256)]
    fine = [min(32767, round(math.exp(-i * scale) * 32768)) for i in range(256)]
    return np.array([*coarse, *fine], "<i2").tobytes()


def softmax_row(row: list[int], table: bytes, masked: bool) -> list[int]:
    powers = np.frombuffer(table, "<i2").tolist()
    kept = [v for v in row if not (masked and v == -128)]
    found = []
    for v in row:
        gone = masked and v == -128
        d = 0 if gone else max(kept) - v
        found.append(0 if gone else (powers[d >> 8] * powers[256 + (d & 255)] + 2**14) >> 15)
    total = sum(found)
    return [(e * 2**15 + (total >> 1)) // total if total else 0 for e in found]


@given(seeds, maps, st.sampled_from([0.001, 0.02, 0.3]), st.booleans())
def test_a_softmax_divides_exponentials_by_their_sum(seed: int, shape: Shape, scale: float, masked: bool) -> None:
    x, table = draw_map(seed, shape), exponentials(scale)
    x[0, 0] = -128
    mode = SoftmaxMode.MASKED if masked else SoftmaxMode.PLAIN
    fields = {"mode": mode, "multiplier": 2**30, "shift": 37, "out_zp": -128}
    y = run_one(Opcode.SOFTMAX, x, shape, fields, table, "table_addr")
    rows = [[softmax_row(x[r, c].tolist(), table, masked) for c in range(shape[1])] for r in range(shape[0])]
    expected = each(shape, lambda r, c, k: clamp(rescale(rows[r][c][k], 2**30, 37) - 128, -128, 127))
    np.testing.assert_array_equal(y, expected)


def norm_element(values: list[int], x: int, epsilon: int) -> int:
    count, total = len(values), sum(values)
    spread = count * sum(v * v for v in values) - total * total + epsilon
    if spread == 0:
        return 0
    t = (62 - spread.bit_length()) // 2
    root = math.isqrt(spread << 2 * t if t >= 0 else spread >> -2 * t)
    reciprocal, shift = (2**61 + (root >> 1)) // root, 41 - t
    return ((count * x - total) * reciprocal + (1 << (shift - 1))) >> shift


@given(
    seeds,
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 5),
    st.integers(1, 4),
    st.booleans(),
    st.integers(0, 2**62),
)
def test_a_normalisation_follows_its_integer_definition(
    seed: int, rows: int, cols: int, group: int, groups: int, over_map: bool, epsilon: int
) -> None:
    shape, rng = (rows, cols, group * groups), np.random.default_rng(seed)
    epsilon >>= int(rng.integers(63))
    x = draw_map(seed, shape)
    columns = ((-9000, 9000), (-(2**31) + 1, 2**31), (44, 50))
    records = np.stack([rng.integers(low, high, shape[2]) for low, high in columns], axis=1)
    fields = {"mode": NormMode.MAP if over_map else NormMode.POSITION, "group": group, "out_zp": 3}
    fields |= {"eps_high": epsilon >> 31, "eps_low": epsilon & (2**31 - 1)}
    y = run_one(Opcode.NORM, x, shape, fields, records.astype("<i4").tobytes(), "params_addr")

    def element(r: int, c: int, k: int) -> int:
        first = k // group * group
        region = x[:, :, first : first + group] if over_map else x[r, c, first : first + group]
        value = norm_element([int(v) for v in region.ravel()], int(x[r, c, k]), epsilon)
        bias, multiplier, shift = (int(v) for v in records[k])
        return clamp(((rescale(value, multiplier, shift) + bias + 128) >> 8) + 3, -128, 127)

    np.testing.assert_array_equal(y, each(shape, element))


@given(st.integers(1, 2**63 - 1).flatmap(lambda v: st.integers(0, 62).map(lambda s: max(1, v >> s))))
def test_a_reciprocal_root_is_exact_to_29_bits(value: int) -> None:
    reciprocal, shift = (int(v[0]) for v in reciprocal_root(np.array([value])))
    assert 0 < reciprocal <= 2**31
    square = Fraction(reciprocal, 2**shift) ** 2 * value / 2**40  # (1/√v × √v)²
    assert abs(square - 1) < Fraction(1, 2**28)


@given(seeds, maps, st.integers(1, 6), st.booleans(), int8s)
def test_a_reduction_takes_groups_of_channels(seed: int, shape: Shape, count: int, maximum: bool, zero: int) -> None:
    x = draw_map(seed, (*shape[:2], shape[2] * count))
    mode = PoolMode.MAX if maximum else PoolMode.SUM
    scale = {"multiplier": 0, "shift": 0} if maximum else {"multiplier": 2**30, "shift": 31}
    y = run_one(Opcode.REDUCE, x, shape, {"mode": mode, "channels_in": count, "in_zp": zero, "out_zp": -4, **scale})

    def element(r: int, c: int, k: int) -> int:
        group = [int(v) for v in x[r, c, k * count : (k + 1) * count]]
        return max(group) if maximum else clamp(rescale(sum(group) - count * zero, 2**30, 31) - 4, -128, 127)

    np.testing.assert_array_equal(y, each(shape, element))


def resized(x: Array, r: int, c: int, k: int, scale: tuple[int, ...], zero: int) -> tuple[int, int]:
    """Nearest element, and weighted sum of four neighbours, of output (r, c, k): TOSA 1.0, RESIZE."""
    places = []
    for position, (n, d, offset), size in ((r, scale[:3], x.shape[0]), (c, scale[3:], x.shape[1])):
        y = position * d + offset
        index, rest = y // n, y % n
        low, high = clamp(index, 0, size - 1), clamp(index + 1, 0, size - 1)
        places.append((low, high, rest, n))
    (y0, y1, dy, ny), (x0, x1, dx, nx) = places
    value = lambda i, j: int(x[i, j, k]) - zero  # noqa: E731
    total = (value(y0, x0) * (ny - dy) + value(y1, x0) * dy) * (nx - dx)
    total += (value(y0, x1) * (ny - dy) + value(y1, x1) * dy) * dx
    return int(x[y1 if 2 * dy >= ny else y0, x1 if 2 * dx >= nx else x0, k]), total


@given(st.data(), seeds, maps, int8s)
def test_a_resize_is_that_of_tosa(data: st.DataObject, seed: int, source: Shape, zero: int) -> None:
    x, draw = draw_map(seed, source), data.draw
    scale = tuple(
        v for _ in "hw" for n in [draw(st.integers(1, 8))]
        for v in (n, draw(st.integers(1, 4 * n)), draw(st.integers(-n, 2 * n)))
    )  # fmt: skip
    shape = (draw(st.integers(1, 9)), draw(st.integers(1, 9)), source[2])
    names = ("scale_h_n", "scale_h_d", "offset_h", "scale_w_n", "scale_w_d", "offset_w")
    fields = {**dict(zip(names, scale, strict=True)), "in_zp": zero, "out_zp": 2}
    kept = {"mode": ResizeMode.NEAREST, "multiplier": 0, "shift": 0}
    near = run_one(Opcode.RESIZE, x, shape, {**fields, **kept})
    np.testing.assert_array_equal(near, each(shape, lambda r, c, k: resized(x, r, c, k, scale, zero)[0]))
    scaled = {"mode": ResizeMode.BILINEAR, "multiplier": 2**30, "shift": 34}
    soft = run_one(Opcode.RESIZE, x, shape, {**fields, **scaled})

    def element(r: int, c: int, k: int) -> int:
        return clamp(rescale(resized(x, r, c, k, scale, zero)[1], 2**30, 34) + 2, -128, 127)

    np.testing.assert_array_equal(soft, each(shape, element))


@pytest.mark.parametrize(
    ("opcode", "fields", "what"),
    [
        (Opcode.NORM, {"group": 2, "chan_count": 3}, "whole groups of 2"),
        (Opcode.NORM, {"group": 0}, "group must be within"),
        (Opcode.NORM, {"group": 1}, "shift 0"),
        (Opcode.RESIZE, {"scale_h_n": 0, "scale_w_n": 1, "scale_h_d": 1, "scale_w_d": 1}, "scale_h_n must be within"),
        (Opcode.REDUCE, {"channels_in": 4, "in_rows": 1}, "are read of a map"),
        (Opcode.SOFTMAX, {"table_addr": 65000}, "lie outside"),
        (Opcode.SOFTMAX, {"out_addr": 0, "mode": SoftmaxMode.MASKED}, "overlaps the input"),
    ],
)
def test_a_function_without_meaning_stops_with_its_reason(opcode: Opcode, fields: dict[str, int], what: str) -> None:
    at = "params_addr" if opcode is Opcode.NORM else ""
    with pytest.raises(ProgramFault, match=what):
        run_one(opcode, np.zeros((2, 2, 4), np.int8), (2, 2, 4), fields, bytes(48), at)
