"""Weights out of a `.tflite` file, written here by the flatbuffers library; damaged files end in a typed error."""

import sys
from collections.abc import Sequence
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from numpy.typing import NDArray

from lanefit.common.errors import InputError
from lanefit.export.graph import ConvConstants, Graph
from lanefit.export.random_graphs import GraphBuilder
from lanefit.kernels.ops import Conv2d, Window

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "engine"))
from tflite_weights import read_weights, with_weights

ADD, CONV, DEPTHWISE, FULLY_CONNECTED = 0, 3, 4, 9
INT8, INT16 = 9, 7
Layer = tuple[int, NDArray[np.int8], int]  # builtin operator, weights as the file holds them, type of the tensor


def _tables(builder: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def _table(builder: flatbuffers.Builder, offsets: dict[int, int], **numbers: int) -> int:
    """A table with offsets by field number, and small numbers as `int8_FIELD` or `int32_FIELD`."""
    builder.StartObject(8)
    for number, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(number, offset, 0)
    for name, value in numbers.items():
        kind, number = name.split("_")
        prepend = {"int8": builder.PrependInt8Slot, "int32": builder.PrependInt32Slot}[kind]
        prepend(int(number), value, 0)
    return builder.EndObject()


def _file(path: Path, layers: Sequence[Layer]) -> Path:
    """A model whose operator number n reads its weights from tensor n, both as second input."""
    b = flatbuffers.Builder(1024)
    codes, tensors, operators, buffers = [], [], [], [_table(b, {})]
    for number, (code, values, kind) in enumerate(layers):
        shape = b.CreateNumpyVector(np.array(values.shape, np.int32))
        data = b.CreateNumpyVector(values.reshape(-1).view(np.uint8))
        inputs = b.CreateNumpyVector(np.array([-1, number], np.int32))
        codes.append(_table(b, {}, int8_0=code, int32_3=code))
        buffers.append(_table(b, {0: data}))
        tensors.append(_table(b, {0: shape}, int8_1=kind, int32_2=number + 1))
        operators.append(_table(b, {1: inputs}, int32_0=number))
    graph = _table(b, {0: _tables(b, tensors), 3: _tables(b, operators)})
    b.Finish(_table(b, {1: _tables(b, codes), 2: _tables(b, [graph]), 4: _tables(b, buffers)}), b"TFL3")
    path.write_bytes(bytes(b.Output()))
    return path


def _values(*shape: int) -> NDArray[np.int8]:
    return np.random.default_rng(sum(shape)).integers(-128, 128, shape).astype(np.int8)


def test_weights_come_in_execution_order_with_the_output_channel_first(tmp_path: Path) -> None:
    conv, depthwise, connected = _values(8, 3, 3, 4), _values(1, 3, 3, 8), _values(5, 8)
    layers = [(CONV, conv, INT8), (DEPTHWISE, depthwise, INT8), (FULLY_CONNECTED, connected, INT8)]
    found = read_weights(_file(tmp_path / "m.tflite", layers))
    assert [weights.shape for weights in found] == [(8, 3, 3, 4), (8, 3, 3, 1), (5, 1, 1, 8)]
    np.testing.assert_array_equal(found[0], conv)
    np.testing.assert_array_equal(found[1][:, :, :, 0], depthwise[0].transpose(2, 0, 1))
    np.testing.assert_array_equal(found[2][:, 0, 0], connected)


def test_other_operators_and_other_types_are_passed_over(tmp_path: Path) -> None:
    wanted = _values(2, 1, 1, 3)
    layers = [(ADD, _values(4), INT8), (CONV, _values(2, 1, 1, 6), INT16), (CONV, wanted, INT8)]
    (found,) = read_weights(_file(tmp_path / "m.tflite", layers))
    np.testing.assert_array_equal(found, wanted)


def test_a_file_cut_off_anywhere_gives_its_weights_or_a_typed_error(tmp_path: Path) -> None:
    values = _values(4, 3, 3, 2)
    whole = _file(tmp_path / "m.tflite", [(CONV, values, INT8)]).read_bytes()
    cut, refused = tmp_path / "cut.tflite", 0
    for size in range(len(whole)):
        cut.write_bytes(whole[:size])
        try:
            found = read_weights(cut)
        except InputError:
            refused += 1
        else:  # what is missing is padding
            np.testing.assert_array_equal(found[0], values)
    assert refused > 0.9 * len(whole)


def _graph() -> Graph:
    build = GraphBuilder(np.random.default_rng(0))
    source = build.tensor("input", (4, 4, 3), 0.1)
    source = build.add_node(Conv2d((4, 4, 3), (4, 4, 8), Window(1, 1)), source)
    return build.graph((build.add_node(Conv2d((4, 4, 8), (4, 4, 5), Window(1, 1)), source),))


def _constants(graph: Graph) -> list[NDArray[np.int8]]:
    found = [graph.constants[node.name] for node in graph.nodes]
    assert all(isinstance(held, ConvConstants) for held in found)
    return [held.weights for held in found if isinstance(held, ConvConstants)]


def test_weights_go_to_the_convolutions_in_order_and_the_rest_is_drawn_without_zeros() -> None:
    first = _values(8, 1, 1, 3)
    given, drawn = _constants(with_weights(_graph(), [first], seed=1))
    np.testing.assert_array_equal(given, first)
    assert drawn.shape == (5, 1, 1, 8)
    assert (drawn != 0).all()
    np.testing.assert_array_equal(drawn, _constants(with_weights(_graph(), [first], seed=1))[1])


def test_weights_of_another_shape_are_not_used() -> None:
    found = _constants(with_weights(_graph(), [np.zeros((9, 9, 9, 9), np.int8)], seed=1))
    assert all((weights != 0).all() for weights in found)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xff" * 64])
def test_what_is_no_flatbuffer_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "other.tflite"
    path.write_bytes(data)
    with pytest.raises(InputError, match="not a TensorFlow Lite model"):
        read_weights(path)
