"""CONV and CONV_ADD against one Python integer at a time."""

from collections.abc import Callable

import numpy as np
import pytest
from engine_programs import Array, Fields, Layout, clamp, each, one_instruction, records, rescale, view
from hypothesis import given
from hypothesis import strategies as st

from lanefit.common.errors import ProgramFault
from lanefit.targets.emulator import Emulator
from lanefit.targets.isa import ConvMode, Opcode

SCALE = 1 << 30


def draw_case(data: st.DataObject) -> tuple[Fields, np.random.Generator]:
    """Window, shapes and zero points of one convolution, as fields and a generator of values."""
    draw = data.draw
    kernel_h, kernel_w = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    f = {
        "kernel_h": kernel_h, "kernel_w": kernel_w,
        "stride_h": draw(st.integers(1, 3)), "stride_w": draw(st.integers(1, 3)),
        "pad_h": draw(st.integers(0, kernel_h - 1)), "pad_w": draw(st.integers(0, kernel_w - 1)),
        "in_zp": draw(st.integers(-128, 127)), "out_zp": draw(st.integers(-128, 127)),
        "in_rows": draw(st.integers(1, 5)), "in_cols": draw(st.integers(1, 5)),
        "act_min": draw(st.integers(-128, 0)), "act_max": draw(st.integers(0, 127)),
    }  # fmt: skip
    return f, np.random.default_rng(draw(st.integers(0, 2**32 - 1)))


def sums(x: Array, weights: Array, bias: Array, f: Fields, depthwise: bool) -> Callable[[int, int, int], int]:
    """The accumulator of output (r, c, k)."""

    def at(r: int, c: int, k: int) -> int:
        total = int(bias[k])
        for y in range(f["kernel_h"]):
            for z in range(f["kernel_w"]):
                row, col = r * f["stride_h"] - f["pad_h"] + y, c * f["stride_w"] - f["pad_w"] + z
                if 0 <= row < f["in_rows"] and 0 <= col < f["in_cols"]:
                    pixel, w = x[row, col].astype(int) - f["in_zp"], weights[k, y, z].astype(int)
                    total += int(pixel[k] * w[0]) if depthwise else int(pixel @ w)
        return total

    return at


def operands(rng: np.random.Generator, channels: int, depth: int, f: Fields) -> tuple[Array, Array, Array, Array]:
    weights = rng.integers(-128, 128, (channels, f["kernel_h"], f["kernel_w"], depth)).astype(np.int8)
    bias = rng.integers(-5000, 5000, channels)
    multiplier = rng.integers(SCALE, 2 * SCALE, channels)
    shift = rng.integers(34, 50, channels)
    return weights, bias, multiplier, shift


@given(st.data(), st.booleans(), st.integers(1, 9), st.integers(1, 5), st.integers(0, 3))
def test_convolution_equals_its_definition(
    data: st.DataObject, depthwise: bool, channels: int, inputs: int, gap: int
) -> None:
    f, rng = draw_case(data)
    inputs = channels if depthwise else inputs
    weights, bias, multiplier, shift = operands(rng, channels, 1 if depthwise else inputs, f)
    shape = (data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4)), channels)
    layout = Layout()
    address = layout.constant(records(weights, bias, multiplier, shift))
    source = layout.map("x", (f["in_rows"], f["in_cols"], inputs), gap=gap)
    built = one_instruction(
        layout, Opcode.CONV, shape, **f, **view("in", source), mode=ConvMode.DEPTHWISE if depthwise else ConvMode.DENSE,
        channels_in=1 if depthwise else inputs, weights_addr=address, record_pitch=12 + weights[0].size,
    )  # fmt: skip
    x = rng.integers(-128, 128, (3, f["in_rows"], f["in_cols"], inputs)).astype(np.int8)
    y = Emulator(built).run({"x": x})["y"]
    for image, result in zip(x, y, strict=True):
        acc = sums(image, weights, bias, f, depthwise)
        expected = each(
            shape,
            lambda r, c, k, acc=acc: clamp(
                rescale(acc(r, c, k), int(multiplier[k]), int(shift[k])) + f["out_zp"], f["act_min"], f["act_max"]
            ),
        )
        np.testing.assert_array_equal(result, expected)


def wide_case(depth: int, weight: int, pixel: int, bias: int, shift: int) -> int:
    """A 1×1 convolution of `depth` equal inputs and weights."""
    layout = Layout()
    address = layout.constant(records(np.full((1, depth), weight), [bias], [SCALE], [shift]))
    source = layout.map("x", (1, 1, depth))
    built = one_instruction(
        layout, Opcode.CONV, (1, 1, 1), **view("in", source), channels_in=depth, weights_addr=address,
        record_pitch=12 + depth, in_zp=127, in_rows=1, in_cols=1,
    )  # fmt: skip
    return Emulator(built).run({"x": np.full((1, 1, depth), pixel, np.int8)})["y"].item()


@pytest.mark.parametrize("depth", [513, 514, 515, 8192], ids=lambda depth: f"depth-{depth}")
def test_sums_beyond_24_bits_are_exact(depth: int) -> None:
    total = depth * 255 * 128
    bias = 100 - total - 1  # a single lost unit would change the rounding below
    assert wide_case(depth, -128, -128, bias, 31) == 50
    assert wide_case(depth, -128, -128, bias + 1, 31) == 50
    assert wide_case(depth, -128, -128, bias + 2, 31) == 51


def test_accumulators_hold_all_of_int32_and_no_more() -> None:
    assert wide_case(1, -1, 126, 2**31 - 2, 60) == 2  # 1 + 2^31 − 2
    assert wide_case(1, 1, 126, -(2**31) + 1, 60) == -2
    with pytest.raises(ProgramFault, match=r"int32 accumulator overflows: it reaches 2147483648"):
        wide_case(1, -1, 126, 2**31 - 1, 60)
    with pytest.raises(ProgramFault, match=r"int32 accumulator overflows: it reaches -2147483649"):
        wide_case(1, 1, 126, -(2**31), 60)


@given(st.data(), st.integers(1, 6))
def test_residual_is_added_in_the_output_stage(data: st.DataObject, channels: int) -> None:
    f, rng = draw_case(data)
    weights, bias, multiplier, shift = operands(rng, channels, 2, f)
    shape = (2, 3, channels)
    layout = Layout()
    address = layout.constant(records(weights, bias, multiplier, shift))
    source = layout.map("x", (f["in_rows"], f["in_cols"], 2))
    second = layout.map("b", shape, gap=2)
    extra = {
        "conv_zp": int(rng.integers(-128, 128)), "conv_min": -90, "conv_max": 100, "b_zp": int(rng.integers(-128, 128)),
        "a_multiplier": SCALE + 7, "a_shift": 12, "b_multiplier": SCALE + 99, "b_shift": 13,
        "sum_multiplier": SCALE + 12345, "sum_shift": 48,
    }  # fmt: skip
    built = one_instruction(
        layout, Opcode.CONV_ADD, shape, **f, **view("in", source), **view("b", second), **extra,
        channels_in=2, weights_addr=address, record_pitch=12 + weights[0].size,
    )  # fmt: skip
    x = rng.integers(-128, 128, (f["in_rows"], f["in_cols"], 2)).astype(np.int8)
    b = rng.integers(-128, 128, shape).astype(np.int8)
    acc = sums(x, weights, bias, f, False)

    def element(r: int, c: int, k: int) -> int:
        first = rescale(acc(r, c, k), int(multiplier[k]), int(shift[k])) + extra["conv_zp"]
        first = clamp(first, -90, 100) - extra["conv_zp"]
        total = rescale(first, SCALE + 7, 12) + rescale(int(b[r, c, k]) - extra["b_zp"], SCALE + 99, 13)
        return clamp(rescale(total, SCALE + 12345, 48) + f["out_zp"], f["act_min"], f["act_max"])

    np.testing.assert_array_equal(Emulator(built).run({"x": x, "b": b})["y"], each(shape, element))


@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 4), st.integers(0, 2**32 - 1))
def test_rows_of_a_rolling_buffer_wrap_around(kernel: int, stride: int, first: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, height = 2, 14
    needed = (rows - 1) * stride + kernel
    start = first * stride - 1
    f = {"kernel_h": kernel, "kernel_w": 1, "stride_h": stride, "stride_w": 1, "pad_h": 1, "pad_w": 0}
    f |= {"in_rows": height, "in_cols": 3, "in_zp": 5}
    weights, bias, multiplier, shift = operands(rng, 2, 4, f)
    layout = Layout()
    address = layout.constant(records(weights, bias, multiplier, shift))
    source = layout.map("x", (height, 3, 4), rows=range(max(0, start), min(height, start + needed)), wrap=needed + 1)
    built = one_instruction(
        layout, Opcode.CONV, (rows, 3, 2), **f, **view("in", source), channels_in=4, weights_addr=address,
        record_pitch=12 + weights[0].size, row_start=first,
    )  # fmt: skip
    x = rng.integers(-128, 128, (height, 3, 4)).astype(np.int8)
    acc = sums(x, weights, bias, f, False)
    expected = each(
        (rows, 3, 2),
        lambda r, c, k: clamp(rescale(acc(r + first, c, k), int(multiplier[k]), int(shift[k])), -128, 127),
    )
    np.testing.assert_array_equal(Emulator(built).run({"x": x})["y"], expected)


def test_channel_tiles_address_their_records_and_clip_at_the_limit() -> None:
    rng = np.random.default_rng(0)
    f = {"kernel_h": 1, "kernel_w": 1, "stride_h": 1, "stride_w": 1, "pad_h": 0, "pad_w": 0}
    f |= {"in_rows": 2, "in_cols": 2, "in_zp": 0}
    weights, bias, multiplier, shift = operands(rng, 7, 3, f)
    layout = Layout()
    tile = slice(4, 7)
    address = layout.constant(records(weights[tile], bias[tile], multiplier[tile], shift[tile]))
    source = layout.map("x", (2, 2, 3))
    built = one_instruction(
        layout, Opcode.CONV, (2, 2, 3), **f, **view("in", source), channels_in=3, weights_addr=address,
        record_pitch=15, weights_chan0=4, chan_start=4, chan_count=4, chan_limit=7,
    )  # fmt: skip
    x = rng.integers(-128, 128, (2, 2, 3)).astype(np.int8)
    acc = sums(x, weights, bias, f, False)
    expected = each(
        (2, 2, 3),
        lambda r, c, k: clamp(rescale(acc(r, c, k + 4), int(multiplier[k + 4]), int(shift[k + 4])), -128, 127),
    )
    np.testing.assert_array_equal(Emulator(built).run({"x": x})["y"], expected)


def test_weights_may_differ_between_images() -> None:
    """A convolution whose records come from an input: one product per image."""
    layout = Layout()
    source = layout.map("x", (1, 2, 3))
    record = layout.map("w", (1, 1, 15))
    built = one_instruction(
        layout, Opcode.CONV, (1, 2, 1), **view("in", source), channels_in=3, weights_addr=record["addr"],
        record_pitch=15, in_rows=1, in_cols=2,
    )  # fmt: skip
    x = np.arange(12, dtype=np.int8).reshape(2, 1, 2, 3)
    weights = np.array([[1, 2, 3], [-3, 0, 2]])
    w = np.stack([np.frombuffer(records(row[None], [0], [SCALE], [30]), np.int8) for row in weights])
    y = Emulator(built).run({"x": x, "w": w.reshape(2, 1, 1, 15)})["y"]
    np.testing.assert_array_equal(y[..., 0], np.einsum("nhwi,ni->nhw", x.astype(int), weights))


def test_maps_larger_than_a_block_are_cut_without_a_seam() -> None:
    rng = np.random.default_rng(1)
    f = {"kernel_h": 3, "kernel_w": 3, "stride_h": 1, "stride_w": 1, "pad_h": 1, "pad_w": 1}
    f |= {"in_rows": 40, "in_cols": 40, "in_zp": 3}
    weights, bias, multiplier, shift = operands(rng, 4, 24, f)
    layout = Layout()
    address = layout.constant(records(weights, bias, multiplier, shift))
    source = layout.map("x", (40, 40, 24))
    built = one_instruction(
        layout, Opcode.CONV, (40, 40, 4), **f, **view("in", source), channels_in=24, weights_addr=address,
        record_pitch=12 + weights[0].size,
    )  # fmt: skip
    x = rng.integers(-128, 128, (40, 40, 24)).astype(np.int8)
    padded = np.pad(x.astype(np.int64) - 3, ((1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))
    acc = np.einsum("hwiyx,kyxi->hwk", windows, weights.astype(np.int64)) + bias
    expected = np.clip((acc * multiplier + (1 << (shift - 1))) >> shift, -128, 127)
    np.testing.assert_array_equal(Emulator(built).run({"x": x})["y"], expected)
