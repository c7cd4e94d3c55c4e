"""SOFTMAX, NORM, MUL and TABLE on INT16 and BF16 elements, against one Python number at a time."""

import math

import numpy as np
import pytest
from engine_programs import Array, Layout, clamp, each, instruction, one_instruction, rescale, view
from hypothesis import given
from hypothesis import strategies as st
from test_emulator_function import exponentials, norm_element

from lanefit.common.errors import ProgramFault
from lanefit.targets.elements import MINUS_INFINITY, PLUS_INFINITY, float_bits, rounded_to_bf16
from lanefit.targets.emulator import Emulator
from lanefit.targets.isa import DType, NormMode, Opcode, SoftmaxMode
from lanefit.targets.ranges import check_fields

SHAPE = (2, 3, 8)
seeds = st.integers(0, 2**32 - 1)
FREE = {"act_min": MINUS_INFINITY, "act_max": PLUS_INFINITY}
single = np.float32


def run(
    opcode: Opcode, x: Array, types: tuple[str, str], fields: dict[str, int], constants: bytes, at: str,
    shape: tuple[int, int, int] | None = None,
) -> Array:  # fmt: skip
    layout = Layout()
    address = {at: layout.constant(constants)} if at else {}
    source = layout.map("x", x.shape, dtype=types[0], gap=4)
    size = {"in_rows": x.shape[0], "in_cols": x.shape[1]}
    every = {**size, **view("in", source), **address, **fields}
    return Emulator(one_instruction(layout, opcode, shape or x.shape, types[1], **every)).run({"x": x})["y"]


def draw_int16(seed: int) -> Array:
    rng = np.random.default_rng(seed)
    low, high = sorted(rng.integers(-32768, 32768, 2))
    return rng.integers(low, high + 1, SHAPE).astype(np.int16)


def draw_bf16(seed: int) -> Array:
    """float32 values that BF16 has."""
    rng = np.random.default_rng(seed)
    return rounded_to_bf16((rng.standard_normal(SHAPE) * rng.choice([0.1, 3, 40])).astype(single))


@given(seeds, st.sampled_from([1e-5, 1e-3, 0.01]), st.sampled_from(["int8", "int16"]), st.booleans())
def test_a_softmax_of_int16_masks_the_least_value(seed: int, scale: float, out: str, masked: bool) -> None:
    x, table = draw_int16(seed), exponentials(scale)
    x[0, 1, :3], x[0, 2] = -32768, -32768
    powers = np.frombuffer(table, "<i2").tolist()
    to_int16 = {"multiplier": 2**30, "shift": 30, "act_min": -32768, "act_max": 32767}
    stage = {"multiplier": 2**30, "shift": 37, "out_zp": -128} if out == "int8" else to_int16
    mode = SoftmaxMode.MASKED if masked else SoftmaxMode.PLAIN
    y = run(Opcode.SOFTMAX, x, ("int16", out), {"mode": mode, **stage}, table, "table_addr")

    def share(r: int, c: int, k: int) -> int:
        row = [int(v) for v in x[r, c]]
        kept = [v for v in row if not masked or v != -32768]
        found = [(powers[(max(kept) - v) >> 8] * powers[256 + (max(kept) - v) % 256] + 2**14) >> 15 for v in kept]
        if masked and row[k] == -32768:
            return 0
        return (found[kept.index(row[k])] * 2**15 + sum(found) // 2) // sum(found)

    low, high = (-128, 127) if out == "int8" else (-32768, 32767)
    expected = np.array([
        clamp(rescale(share(*p), 2**30, stage["shift"]) + stage.get("out_zp", 0), low, high) for p in np.ndindex(SHAPE)
    ])  # fmt: skip
    np.testing.assert_array_equal(y.ravel(), expected)


@given(seeds, st.sampled_from(["int8", "int16"]), st.booleans(), st.integers(0, 2**40))
def test_a_normalisation_of_int16_follows_its_integer_definition(
    seed: int, out: str, over_map: bool, epsilon: int
) -> None:
    x, rng = draw_int16(seed), np.random.default_rng(seed)
    columns = ((-9000, 9000), (-(2**31) + 1, 2**31), (44, 50))
    records = np.stack([rng.integers(low, high, 8) for low, high in columns], axis=1)
    low, high = (-128, 127) if out == "int8" else (-32768, 32767)
    fields = {"mode": NormMode.MAP if over_map else NormMode.POSITION, "group": 4, "act_min": low, "act_max": high}
    fields |= {"eps_high": epsilon >> 31, "eps_low": epsilon & (2**31 - 1)}
    y = run(Opcode.NORM, x, ("int16", out), fields, records.astype("<i4").tobytes(), "params_addr")
    for r, c, k in np.ndindex(SHAPE):
        first = k // 4 * 4
        region = x[:, :, first : first + 4] if over_map else x[r, c, first : first + 4]
        value = norm_element([int(v) for v in region.ravel()], int(x[r, c, k]), epsilon)
        bias, multiplier, shift = (int(v) for v in records[k])
        assert y[r, c, k] == clamp((rescale(value, multiplier, shift) + bias + 128) >> 8, low, high)


@given(seeds, st.booleans())
def test_a_softmax_of_bf16_sums_in_the_order_of_the_channels(seed: int, masked: bool) -> None:
    x = draw_bf16(seed)
    if masked:
        x[0, 0, :5], x[1, 1] = -np.inf, -np.inf
    mode = SoftmaxMode.MASKED if masked else SoftmaxMode.PLAIN
    y = run(Opcode.SOFTMAX, x, ("bf16", "bf16"), {"mode": mode, **FREE}, b"", "")
    for r, c in np.ndindex(*SHAPE[:2]):
        row = [single(v) for v in x[r, c]]
        powers = [single(0) if v == -np.inf else single(math.exp(float(v - max(row)))) for v in row]
        total = single(0)
        for power in powers:
            total = single(total + power)
        shares = np.array([p / total if total else single(0) for p in powers], single)
        np.testing.assert_array_equal(y[r, c], rounded_to_bf16(shares))


@given(seeds, st.booleans())
def test_a_normalisation_of_bf16_sums_over_rows_columns_and_channels(seed: int, over_map: bool) -> None:
    x, rng = draw_bf16(seed), np.random.default_rng(seed)
    words = np.stack([rng.normal(0, 1, 8), rng.normal(1, 1, 8), np.zeros(8)], axis=1).astype("<f4")
    epsilon = single(1e-3)
    fields = {"mode": NormMode.MAP if over_map else NormMode.POSITION, "group": 4, **FREE}
    fields["eps_low"] = float_bits(float(epsilon))
    y = run(Opcode.NORM, x, ("bf16", "bf16"), fields, words.tobytes(), "params_addr")
    for r, c, k in np.ndindex(SHAPE):
        first = k // 4 * 4
        region = x[:, :, first : first + 4] if over_map else x[r, c, first : first + 4]
        values = [single(v) for v in region.ravel()]
        mean = single(ordered_sum(values) / single(len(values)))
        spread = single(ordered_sum([single(v - mean) * single(v - mean) for v in values]) / single(len(values)))
        z = single(x[r, c, k] - mean) / np.sqrt(single(spread + epsilon))
        result = single(z * words[k, 1]) + words[k, 0]
        assert y[r, c, k] == rounded_to_bf16(np.array([result], single))[0]


def ordered_sum(values: list[np.float32]) -> np.float32:
    total = single(0)
    for value in values:
        total = single(total + value)
    return total


@given(seeds)
def test_products_of_int16_and_of_bf16(seed: int) -> None:
    layout = Layout()
    a_view, b_view = layout.map("a", SHAPE, dtype="int16"), layout.map("b", SHAPE)
    size = {"in_rows": SHAPE[0], "in_cols": SHAPE[1]}
    fields = {"b_zp": 7, "multiplier": 2**30, "shift": 38, "act_min": -32768, "act_max": 32767, **size}
    built = one_instruction(layout, Opcode.MUL, SHAPE, "int16", **view("in", a_view), **view("b", b_view), **fields)
    a, b = draw_int16(seed), np.random.default_rng(seed).integers(-128, 128, SHAPE).astype(np.int8)
    found = Emulator(built).run({"a": a, "b": b})["y"]
    for place in np.ndindex(SHAPE):
        product = int(a[place]) * (int(b[place]) - 7)
        assert found[place] == clamp(rescale(product, 2**30, 38), -32768, 32767)
    x, y = draw_bf16(seed), draw_bf16(seed + 1)
    layout = Layout()
    views = {**view("in", layout.map("a", SHAPE, dtype="bf16")), **view("b", layout.map("b", SHAPE, dtype="bf16"))}
    built = one_instruction(layout, Opcode.MUL, SHAPE, "bf16", **views, **size, **FREE)
    np.testing.assert_array_equal(Emulator(built).run({"a": x, "b": y})["y"], rounded_to_bf16(x * y))


@given(seeds)
def test_a_table_may_hold_int16(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table, x = rng.integers(-32768, 32768, 256).astype("<i2"), rng.integers(-128, 128, SHAPE).astype(np.int8)
    limits = {"act_min": -30000, "act_max": 32767}
    y = run(Opcode.TABLE, x, ("int8", "int16"), limits, table.tobytes(), "table_addr")
    np.testing.assert_array_equal(y, np.maximum(table[x.astype(int) + 128], -30000))


def test_an_output_of_another_size_may_not_overwrite_its_input() -> None:
    x = np.zeros(SHAPE, np.int8)
    limits = {"act_min": -30000, "act_max": 32767, "out_addr": 512}
    with pytest.raises(ProgramFault, match="overlaps the input"):
        run(Opcode.TABLE, x, ("int8", "int16"), limits, bytes(512), "table_addr")


@pytest.mark.parametrize("opcode", [Opcode.REDUCE, Opcode.RESIZE, Opcode.TABLE])
def test_types_without_a_meaning_are_refused_with_those_that_have_one(opcode: Opcode) -> None:
    built = instruction(opcode, in_type=DType.BF16, out_type=DType.INT8)
    with pytest.raises(ProgramFault, match=r"no meaning for in_type, out_type = BF16 INT8[\s\S]*INT8 INT8"):
        check_fields(opcode, built.fields)


def test_the_least_element_is_an_ordinary_logit_unless_masked() -> None:
    x = np.full((1, 1, 4), -128, np.int8)
    y = run(Opcode.SOFTMAX, x, ("int8", "int8"), {"multiplier": 2**30, "shift": 37}, exponentials(0.1), "table_addr")
    np.testing.assert_array_equal(y, each((1, 1, 4), lambda r, c, k: 64))
