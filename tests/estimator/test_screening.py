"""Screening sees many networks from afar: near the exact estimator, in the same order, with the same sizes."""

from dataclasses import replace
from functools import cache

import pytest
from estimator.sample_graphs import sample_architectures, sample_graph, small_estimator

from lanefit.common.errors import EstimatorError
from lanefit.estimator.metrics import accuracy
from lanefit.estimator.network import NetworkEstimator
from lanefit.estimator.pieces import Piece
from lanefit.estimator.screening import ScreeningEstimator
from lanefit.models.architecture import Architecture
from lanefit.nas.pieces import architecture_pieces


def pieces(architecture: Architecture) -> tuple[Piece, ...]:
    return architecture_pieces(architecture, input_channels=1, classes=10)


@cache
def screening() -> ScreeningEstimator:
    known = sample_architectures(24, seed=4)
    return ScreeningEstimator.fit(small_estimator(), list(map(pieces, known)), list(map(sample_graph, known)))


def test_screened_latencies_rank_networks_as_the_exact_estimator_does() -> None:
    unseen = sample_architectures(30, seed=5)
    exact = small_estimator().estimate_many(list(map(sample_graph, unseen)))
    screened = [screening().estimate(pieces(architecture)) for architecture in unseen]
    pairs = [(s.latency_us, e.latency_us) for s, e in zip(screened, exact, strict=True) if s.latency_us is not None]
    found = accuracy(*zip(*pairs, strict=True))
    assert len(pairs) >= 25
    assert found.spearman >= 0.98
    assert found.acc10 >= 0.75


def test_macs_are_those_of_the_whole_network() -> None:
    for architecture in sample_architectures(5, seed=6):
        assert screening().estimate(pieces(architecture)).macs == sample_graph(architecture).macs


def test_blocks_that_differ_in_names_only_are_one_piece() -> None:
    (architecture,) = sample_architectures(1, seed=7)
    deep = architecture.with_values(
        stage1_depth=3, stage1_block1="ibn", stage1_block2="ibn", stage1_block3="ibn", stage1_expansion=2
    )
    second, third = pieces(deep)[2:4]
    assert second is third


def test_a_network_that_leaves_sram_is_left_to_the_exact_estimator() -> None:
    small = small_estimator()
    spec = replace(small.spec, sram_bytes=16384)
    screen = ScreeningEstimator(NetworkEstimator(spec, small.regressor, small.card))
    (drawn,) = sample_architectures(1, seed=8)
    wide = drawn.with_values(resolution=32, stem_channels=32, stem_stride=1, depth_multiplier=1)
    found = screen.estimate(pieces(wide))
    assert not found.resident
    assert found.latency_upper_us is None


def test_screening_is_not_fitted_to_a_handful_of_networks() -> None:
    few = sample_architectures(3, seed=9)
    with pytest.raises(EstimatorError, match="3 of 3 networks"):
        ScreeningEstimator.fit(small_estimator(), list(map(pieces, few)), list(map(sample_graph, few)))
