"""Networks fall into pieces where a single map is handed on; nothing of them is lost."""

import numpy as np
import pytest

from lanefit.common.errors import UnsupportedError
from lanefit.estimator.pieces import Chain, GraphPiece
from lanefit.models.layers import BlockForm, LayerBlock, LayerBuilder
from lanefit.models.registry import families
from lanefit.nas.bridge import to_graph
from lanefit.nas.pieces import architecture_pieces, to_pieces


def macs(pieces: tuple[Chain | GraphPiece, ...]) -> int:
    return sum(piece.build().macs for piece in pieces)


@pytest.mark.parametrize("name", ["ibn-classifier", "mnasnet"])
def test_pieces_together_do_the_work_of_the_network(name: str) -> None:
    family, generator = families.get(name), np.random.default_rng(3)
    for _ in range(4):
        drawn = family.sample(generator)
        pieces = architecture_pieces(drawn, input_channels=3, classes=10)
        assert macs(pieces) == to_graph(family.layers(drawn, input_channels=3, classes=10)).macs
        assert [piece.first for piece in pieces] == [True] + [False] * (len(pieces) - 1)
        assert [piece.last for piece in pieces] == [False] * (len(pieces) - 1) + [True]


def test_a_cell_whose_nodes_read_several_maps_is_one_piece() -> None:
    family = families.get("nas-bench-201")
    operations = ["nor_conv_3x3", "skip_connect", "none", "nor_conv_1x1", "skip_connect", "nor_conv_3x3"]
    knobs = [knob.name for knob in family.knobs()]
    cell = family.middle().with_values(**dict(zip(knobs, operations, strict=True)))
    layers = family.layers(cell, input_channels=3, classes=10)
    pieces = architecture_pieces(cell, input_channels=3, classes=10)
    assert len(pieces) == 1 + 15 + 2 + 1
    assert pieces[1] is pieces[2]
    assert macs(pieces) == to_graph(layers).macs


def test_clamps_and_names_make_no_difference_to_a_piece() -> None:
    family = families.get("ibn-classifier")
    middle = family.middle()
    relu, relu6 = (
        architecture_pieces(middle.with_values(activation=name), input_channels=3, classes=10)
        for name in ("relu", "relu6")
    )
    assert all(one is other for one, other in zip(relu, relu6, strict=True))


def test_a_block_of_two_inputs_without_a_common_source_is_refused() -> None:
    net = LayerBuilder((4, 8, 8), ("left", "right"))
    net.add("sum", "left")
    with pytest.raises(UnsupportedError, match="left, right"):
        to_pieces([LayerBlock(BlockForm(net.layers(), "sum", (4, 8, 8)))])


def test_a_network_without_layers_has_no_pieces() -> None:
    with pytest.raises(UnsupportedError, match="without layers"):
        to_pieces([])
