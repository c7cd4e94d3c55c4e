"""POOL, ADD and REQUANTISE against one Python integer at a time."""

import numpy as np
import pytest
from engine_programs import Array, Fields, Layout, Shape, Triple, clamp, each, one_instruction, rescale, view
from hypothesis import given
from hypothesis import strategies as st

from lanefit.common.errors import ProgramFault
from lanefit.targets.emulator import Emulator
from lanefit.targets.isa import Opcode, PoolMode

SCALE = 1 << 30
int8s = st.integers(-128, 127)
multipliers = st.integers(1, 2**31 - 1)


def pool_case(data: st.DataObject, *, padded: bool) -> tuple[Fields, Shape]:
    """Fields of a pooling whose windows all meet the map, its output shape and the inputs under a position."""
    draw = data.draw
    f, shape = {"in_zp": draw(int8s), "out_zp": draw(int8s)}, []
    for axis, size in (("h", "in_rows"), ("w", "in_cols")):
        kernel, stride, extent = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 6))
        pad = draw(st.integers(0, kernel - 1)) if padded else 0
        f |= {f"kernel_{axis}": kernel, f"stride_{axis}": stride, f"pad_{axis}": pad, size: extent}
        shape.append(draw(st.integers(1, (extent - 1 + pad) // stride + 1)))
    rows, cols = shape
    return f, (rows, cols, draw(st.integers(1, 5)))


def under(x: Array, f: Fields, r: int, c: int, k: int) -> list[int]:
    """Elements of the map in the window of output (r, c, k)."""
    row, col = r * f["stride_h"] - f["pad_h"], c * f["stride_w"] - f["pad_w"]
    inside = x[max(0, row) : max(0, row + f["kernel_h"]), max(0, col) : max(0, col + f["kernel_w"]), k]
    return [int(v) for v in inside.ravel()]


def run_pool(f: Fields, shape: Shape, x: Array, **fields: int) -> Array:
    layout = Layout()
    source = layout.map("x", x.shape, gap=1)
    built = one_instruction(layout, Opcode.POOL, shape, **{**f, **view("in", source), **fields})
    return Emulator(built).run({"x": x})["y"]


@given(st.data(), st.integers(0, 2**32 - 1))
def test_maximum_ignores_padding_and_clamps(data: st.DataObject, seed: int) -> None:
    f, shape = pool_case(data, padded=True)
    x = np.random.default_rng(seed).integers(-128, 128, (f["in_rows"], f["in_cols"], shape[2])).astype(np.int8)
    y = run_pool(f, shape, x, mode=PoolMode.MAX, multiplier=0, shift=0, act_min=-100, act_max=90)
    np.testing.assert_array_equal(y, each(shape, lambda r, c, k: clamp(max(under(x, f, r, c, k)), -100, 90)))


@given(st.data(), st.integers(0, 2**32 - 1))
def test_maximum_with_a_multiplier_is_rescaled(data: st.DataObject, seed: int) -> None:
    f, shape = pool_case(data, padded=True)
    x = np.random.default_rng(seed).integers(-128, 128, (f["in_rows"], f["in_cols"], shape[2])).astype(np.int8)
    y = run_pool(f, shape, x, mode=PoolMode.MAX, multiplier=SCALE + 5, shift=31)

    def element(r: int, c: int, k: int) -> int:
        value = rescale(max(under(x, f, r, c, k)) - f["in_zp"], SCALE + 5, 31)
        return clamp(value + f["out_zp"], -128, 127)

    np.testing.assert_array_equal(y, each(shape, element))


@given(st.data(), st.integers(0, 2**32 - 1))
def test_sum_adds_nothing_for_padding(data: st.DataObject, seed: int) -> None:
    f, shape = pool_case(data, padded=True)
    x = np.random.default_rng(seed).integers(-128, 128, (f["in_rows"], f["in_cols"], shape[2])).astype(np.int8)
    y = run_pool(f, shape, x, mode=PoolMode.SUM, multiplier=SCALE + 3, shift=33)

    def element(r: int, c: int, k: int) -> int:
        total = sum(v - f["in_zp"] for v in under(x, f, r, c, k))
        return clamp(rescale(total, SCALE + 3, 33) + f["out_zp"], -128, 127)

    np.testing.assert_array_equal(y, each(shape, element))


def test_maximum_over_padding_alone_is_a_fault() -> None:
    f = {"kernel_h": 2, "kernel_w": 1, "stride_h": 3, "stride_w": 1, "in_rows": 2, "in_cols": 1}
    with pytest.raises(ProgramFault, match="covers no row of the map"):
        run_pool(f, (2, 1, 1), np.zeros((2, 1, 1), np.int8), mode=PoolMode.MAX, multiplier=0)


@given(
    st.tuples(int8s, int8s, int8s), st.tuples(multipliers, multipliers, multipliers),
    st.tuples(st.integers(24, 45), st.integers(24, 45), st.integers(24, 62)), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_addition_rescales_both_operands_and_the_sum(
    zero_points: Triple, scales: Triple, shifts: Triple, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    shape = (2, 3, 5)
    layout = Layout()
    a_view, b_view = layout.map("a", shape, gap=1), layout.map("b", shape, gap=2)
    (za, zb, zo), (ma, mb, ms), (sa, sb, ss) = zero_points, scales, shifts
    fields = {
        "in_zp": za, "b_zp": zb, "out_zp": zo, "a_multiplier": ma, "b_multiplier": mb, "sum_multiplier": ms,
        "a_shift": sa, "b_shift": sb, "sum_shift": ss, "in_rows": 2, "in_cols": 3, "act_min": -120, "act_max": 119,
    }  # fmt: skip
    built = one_instruction(layout, Opcode.ADD, shape, **fields, **view("in", a_view), **view("b", b_view))
    a, b = (rng.integers(-128, 128, (2, *shape)).astype(np.int8) for _ in range(2))
    y = Emulator(built).run({"a": a, "b": b})["y"]

    def element(n: int, r: int, c: int, k: int) -> int:
        total = rescale(int(a[n, r, c, k]) - za, ma, sa) + rescale(int(b[n, r, c, k]) - zb, mb, sb)
        return clamp(rescale(total, ms, ss) + zo, -120, 119)

    for n in range(2):
        np.testing.assert_array_equal(y[n], each(shape, lambda r, c, k, n=n: element(n, r, c, k)))


@given(int8s, int8s, multipliers, st.integers(24, 62))
def test_requantisation_covers_every_value(in_zp: int, out_zp: int, multiplier: int, shift: int) -> None:
    shape = (4, 8, 8)
    layout = Layout()
    built = one_instruction(
        layout, Opcode.REQUANTISE, shape, **view("in", layout.map("x", shape)), in_zp=in_zp, out_zp=out_zp,
        multiplier=multiplier, shift=shift, in_rows=4, in_cols=8, act_min=-77,
    )  # fmt: skip
    x = np.arange(-128, 128).reshape(shape).astype(np.int8)
    expected = each(
        shape, lambda r, c, k: clamp(rescale(int(x[r, c, k]) - in_zp, multiplier, shift) + out_zp, -77, 127)
    )
    np.testing.assert_array_equal(Emulator(built).run({"x": x})["y"], expected)


def test_only_values_that_occur_can_overflow_a_rescale() -> None:
    layout = Layout()
    built = one_instruction(
        layout, Opcode.REQUANTISE, (1, 1, 2), **view("in", layout.map("x", (1, 1, 2))), in_rows=1, in_cols=1,
        multiplier=2**31 - 1, shift=2,
    )  # fmt: skip
    emulator = Emulator(built)
    np.testing.assert_array_equal(emulator.run({"x": np.array([[[3, -3]]], np.int8)})["y"], [[[127, -128]]])
    with pytest.raises(ProgramFault, match="RESCALE overflows int32"):
        emulator.run({"x": np.array([[[3, 100]]], np.int8)})


def test_elements_outside_of_the_map_read_as_the_zero_point() -> None:
    layout = Layout()
    built = one_instruction(
        layout, Opcode.REQUANTISE, (2, 2, 1), **view("in", layout.map("x", (2, 2, 1))), in_rows=1, in_cols=2,
        in_zp=9, out_zp=4,
    )  # fmt: skip
    y = Emulator(built).run({"x": np.full((2, 2, 1), 10, np.int8)})["y"]
    np.testing.assert_array_equal(y[..., 0], [[5, 5], [4, 4]])


def test_an_empty_range_is_a_legal_no_operation() -> None:
    layout = Layout()
    built = one_instruction(
        layout, Opcode.REQUANTISE, (1, 1, 1), **{**view("in", layout.map("x", (1, 1, 1))), "in_addr": -5}, row_limit=0
    )
    assert Emulator(built).run({"x": np.ones((1, 1, 1), np.int8)})["y"].item() == 0
