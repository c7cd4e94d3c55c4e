from __future__ import annotations

import numpy as np
import pytest
from family_conformance import FamilyConformance
from reference_tables import latency_table

from lanefit.common.errors import ConfigError
from lanefit.models.cell_string import CONV_3, NONE, OPERATIONS
from lanefit.models.family import Family
from lanefit.models.layers import LayerKind
from lanefit.models.nas_bench_201 import NAS_BENCH_201, connected, format_architecture, parse_architecture


class TestNasBench201(FamilyConformance):
    @pytest.fixture
    def family(self) -> Family:
        return NAS_BENCH_201


def uniform(operation: str) -> str:
    return "+".join(f"|{''.join(f'{operation}~{s}|' for s in range(t))}" for t in (1, 2, 3))


def test_the_cell_of_six_wide_convolutions_has_the_published_size() -> None:
    layers = NAS_BENCH_201.layers(parse_architecture(uniform(CONV_3)), input_channels=3, classes=10)
    assert sum(layer.parameters for layer in layers) == 1_531_546


def test_every_published_cell_is_read_and_341_of_them_are_disconnected() -> None:
    rows = latency_table("nb201_latency_ms.csv")
    architectures = [parse_architecture(row["arch_str"]) for row in rows]
    assert len({a.digest() for a in architectures}) == len(rows) == len(OPERATIONS) ** 6
    assert [format_architecture(a) for a in architectures] == [row["arch_str"] for row in rows]
    assert sum(not connected(a) for a in architectures) == 341


def test_nothing_is_left_out_of_a_cell_that_hands_nothing_on() -> None:
    architecture = parse_architecture(uniform(NONE))
    kinds = [layer.kind for layer in NAS_BENCH_201.layers(architecture, input_channels=3, classes=10)]
    assert kinds.count(LayerKind.ZERO) == 15 * 6


def test_samples_are_connected() -> None:
    generator = np.random.default_rng(0)
    assert all(connected(NAS_BENCH_201.sample(generator)) for _ in range(200))


def test_an_unknown_operation_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="node1_from0"):
        NAS_BENCH_201.check(parse_architecture(uniform(NONE)).with_values(node1_from0="conv_9x9"))
