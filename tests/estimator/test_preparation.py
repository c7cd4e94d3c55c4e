"""Chains are prepared as the partition of their graphs says, whatever the engine's memory."""

from dataclasses import replace

import pytest
from estimator.sample_graphs import sample_architectures

from lanefit.common.errors import UnsupportedError
from lanefit.estimator.pieces import Chain, GraphPiece, Piece, Step
from lanefit.estimator.preparation import Preparation, Prepared
from lanefit.kernels.ops import Conv2d, Window
from lanefit.nas.pieces import architecture_pieces
from lanefit.targets.spec import EngineSpec, load_spec

SPEC = load_spec("ne-256")


def chains(count: int, seed: int) -> set[Chain]:
    drawn = sample_architectures(count, seed)
    found = (piece for a in drawn for piece in architecture_pieces(a, input_channels=3, classes=10))
    return {piece for piece in found if isinstance(piece, Chain)}


def outcome(spec: EngineSpec, piece: Piece) -> Prepared | str:
    """What was prepared, or why it was refused."""
    try:
        return Preparation(spec).of(piece)
    except UnsupportedError as error:
        return error.what


@pytest.mark.parametrize(
    "spec",
    [SPEC, replace(SPEC, sram_bytes=32_768), replace(SPEC, io_memory="sram"), load_spec("ethos-u55-128")],
    ids=["ne-256", "little-sram", "ports-in-sram", "ethos-u55-128"],
)
def test_a_chain_is_prepared_as_its_graph_is(spec: EngineSpec) -> None:
    found = chains(12, seed=11)
    assert len(found) > 40
    for chain in found:
        as_graph = GraphPiece(chain.build, chain.first, chain.last)
        assert outcome(spec, chain) == outcome(spec, as_graph)


def test_a_residual_that_the_first_block_carries_reads_the_host() -> None:
    conv = Conv2d((8, 8, 8), (8, 8, 8), Window(3, 3, 1, 1, 1, 1))
    steps = Step.of(conv), Step.of(conv, residual=True)
    apart, ported = (Preparation(SPEC).of(Chain(steps, True, first, False)) for first in (False, True))
    assert ported.sram_bytes != apart.sram_bytes
    assert ported.macs == apart.macs == 2 * conv.macs


def test_a_convolution_too_large_for_an_empty_sram_is_refused() -> None:
    wide = Conv2d((1, 1, 60_000), (1, 1, 16), Window(1, 1))
    spec = replace(SPEC, sram_bytes=32_768)
    with pytest.raises(UnsupportedError, match="the smallest tile"):
        Preparation(spec).of(Chain((Step.of(wide),), False, False, False))
