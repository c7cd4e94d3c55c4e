"""Graphs from rows of a per-layer table: who reads what, which padding a shape implies, and what is left out."""

import sys
from pathlib import Path

import pytest

from lanefit.common.errors import InputError
from lanefit.export.graph import ConvConstants
from lanefit.kernels.ops import Add, Conv2d, Pool2d, Requantise

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "engine"))
from vela_graphs import Row, network, read_table


def _rows(*specs: str) -> list[Row]:
    """`op ifm>ofm kernel stride`, where the second operand of an addition is `ifm` again; 10 cycles each."""
    rows: list[Row] = []
    for number, text in enumerate(specs):
        op, shapes, *rest = text.split()
        source, target = shapes.split(">")
        kernel, stride = rest if rest else ("1x1", "1x1")
        second = {"Add": source, "Mul": "1x1x1x1"}.get(op, "")
        row = {"idx": str(number), "op": op, "ifm": source, "ifm2": second, "ofm": target, "k": kernel, "s": stride}
        rows.append({**row, "op_cycles": "10"})
    return rows


STEM = "Conv2D 1x8x8x3>1x8x8x16 3x3 1x1"


def test_same_padding_is_split_as_tensorflow_does_and_valid_has_none() -> None:
    found = network(
        _rows(
            "Conv2D 1x6x6x3>1x3x3x8 3x3 2x2",
            "DepthwiseConv2D 1x3x3x8>1x3x3x8 3x3 1x1",
            "Conv2D 1x3x3x8>1x1x1x4 3x3 1x1",
        ),
        "table",
    ).graph
    stem, depthwise, valid = (node.op for node in found.nodes)
    assert isinstance(stem, Conv2d)
    assert isinstance(depthwise, Conv2d)
    assert isinstance(valid, Conv2d)
    assert (stem.window.pad_h, stem.window.pad_w) == (0, 0)  # one row of padding in all, and it lies at the bottom
    assert depthwise.depthwise
    assert (depthwise.window.pad_h, depthwise.window.pad_w) == (1, 1)
    assert (valid.window.pad_h, valid.window.pad_w) == (0, 0)


def test_each_row_reads_the_latest_tensor_of_its_shape() -> None:
    graph = network(
        _rows(STEM, "Conv2D 1x8x8x16>1x8x8x16", "Relu 1x8x8x16>1x8x8x16", "MaxPool 1x8x8x16>1x4x4x16 2x2 2x2"), "table"
    ).graph
    assert [node.inputs for node in graph.nodes] == [("input",), ("conv2d0:0",), ("conv2d1:0",)]
    pool = graph.nodes[-1].op
    assert isinstance(pool, Pool2d)
    assert pool.maximum
    assert graph.outputs == ("maxpool3:0",)


def test_the_second_operand_of_an_addition_is_the_branch_that_nobody_has_read() -> None:
    """A shortcut through a convolution of its own: two tensors of one shape, one of them unread."""
    graph = network(
        _rows(
            STEM,
            "Conv2D 1x8x8x16>1x4x4x32 3x3 2x2",
            "Conv2D 1x4x4x32>1x4x4x32 3x3 1x1",
            "Conv2D 1x8x8x16>1x4x4x32 1x1 2x2",
            "Add 1x4x4x32>1x4x4x32",
        ),
        "table",
    ).graph
    addition = graph.nodes[-1]
    assert isinstance(addition.op, Add)
    assert set(addition.inputs) == {"conv2d2:0", "conv2d3:0"}


def test_an_identity_shortcut_comes_from_the_input_of_its_block() -> None:
    block = ("Conv2D 1x8x8x16>1x8x8x16 3x3 1x1", "Conv2D 1x8x8x16>1x8x8x16 3x3 1x1", "Add 1x8x8x16>1x8x8x16")
    graph = network(_rows(STEM, *block, *block), "table").graph
    additions = [node for node in graph.nodes if isinstance(node.op, Add)]
    assert additions[0].inputs == ("conv2d2:0", "conv2d0:0")
    assert additions[1].inputs == ("conv2d5:0", "add3:0")


def test_a_product_with_a_constant_is_a_change_of_scale() -> None:
    graph = network(_rows(STEM, "Mul 1x8x8x16>1x8x8x16", "Conv2D 1x8x8x16>1x8x8x16"), "table").graph
    assert isinstance(graph.nodes[1].op, Requantise)


def test_quantisation_and_a_decomposed_softmax_are_left_out_with_their_cycles() -> None:
    tail = ("MaxPool 1x8x8x16>1x8x8x1 1x1 1x1", "LUT 1x8x8x1>1x8x8x1")
    found = network(_rows("Quantize 1x8x8x3>1x8x8x3", STEM, *tail), "table")
    assert [node.name for node in found.graph.nodes] == ["conv2d1"]
    assert found.left_out == ("Quantize", "MaxPool", "LUT")
    assert found.left_out_cycles == 30


def test_a_pooling_behind_the_last_convolution_stays() -> None:
    found = network(_rows(STEM, "MaxPool 1x8x8x16>1x4x4x16 2x2 2x2"), "table")
    assert [node.name for node in found.graph.nodes] == ["conv2d0", "maxpool1"]
    assert found.left_out == ()


def test_weights_are_zero_and_have_the_shapes_of_the_rows() -> None:
    graph = network(_rows(STEM, "DepthwiseConv2D 1x8x8x16>1x8x8x16 3x3 1x1"), "table").graph
    stem, depthwise = (graph.constants[node.name] for node in graph.nodes)
    assert isinstance(stem, ConvConstants)
    assert isinstance(depthwise, ConvConstants)
    assert stem.weights.shape == (16, 3, 3, 3)
    assert depthwise.weights.shape == (16, 3, 3, 1)
    assert not stem.weights.any()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((STEM, "Gather 1x8x8x16>1x8x8x16", "Conv2D 1x8x8x16>1x8x8x16"), "Gather is none of"),
        (("Conv2D 2x8x8x3>2x8x8x16",), "batch 2"),
        (("Conv2D 1x8x8>1x8x8x16",), "not a shape"),
        ((STEM, "Conv2D 1x9x9x16>1x9x9x16"), "no row before makes its input"),
        (("Add 1x8x8x16>1x8x8x16", "Conv2D 1x8x8x16>1x8x8x16"), "no second operand"),
        (("Quantize 1x8x8x3>1x8x8x3",), "no row is an operator of the engine"),
    ],
)
def test_rows_that_make_no_network_are_refused(rows: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        network(_rows(*rows), "table")


def test_a_table_without_a_column_says_which(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("model,op\nm,Conv2D\n", encoding="utf-8")
    assert read_table(path, "model") == [{"model": "m", "op": "Conv2D"}]
    with pytest.raises(InputError, match="lacks accel"):
        read_table(path, "model", "accel")
    with pytest.raises(InputError, match="cannot read the table"):
        read_table(tmp_path / "absent.csv", "model")
