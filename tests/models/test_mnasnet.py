from __future__ import annotations

import numpy as np
import pytest
from family_conformance import FamilyConformance
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_tables import latency_table

from lanefit.common.errors import ConfigError
from lanefit.models.architecture import Architecture
from lanefit.models.family import Family
from lanefit.models.layers import LayerKind
from lanefit.models.mnasnet import COLUMNS, MNASNET, format_columns, parse_columns


class TestMnasNet(FamilyConformance):
    @pytest.fixture
    def family(self) -> Family:
        return MNASNET


def parameters(architecture: Architecture) -> int:
    return sum(layer.parameters for layer in MNASNET.layers(architecture, input_channels=3, classes=1000))


def test_the_published_parameter_counts_are_reproduced_exactly() -> None:
    rows = latency_table("mnasnet_accelerators.csv")
    wrong = [row["id"] for row in rows if round(float(row["params"]) * 1e6) != parameters(parse_columns(row))]
    assert wrong == []
    assert len(rows) == 5138


def test_rows_survive_as_architectures() -> None:
    for row in latency_table("mnasnet_accelerators.csv")[:200]:
        assert format_columns(parse_columns(row)) == {column: row[column] for column in COLUMNS}


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=50)
def test_architectures_survive_as_rows(seed: int) -> None:
    drawn = MNASNET.sample(np.random.default_rng(seed)).with_values(resolution=224)
    assert parse_columns(format_columns(drawn)) == drawn


def test_numbers_and_booleans_are_read_as_spreadsheets_write_them() -> None:
    row = format_columns(MNASNET.middle())
    for written in ("True", "true", "TRUE", "1", "1.0"):
        assert parse_columns({**row, "block0_se": written, "block0_e": " 6.0 "}).values["block0_se"] == 1
    assert parse_columns({**row, "block0_e": "6.0"}).values["block0_e"] == 6


def test_squeeze_and_excitation_adds_a_gate_to_every_block_of_its_stage() -> None:
    plain = MNASNET.middle().with_values(**{f"block{stage}_se": 0 for stage in range(7)})
    gated = plain.with_values(block2_se=1, block2_l=3)
    gates = [layer for layer in MNASNET.layers(gated, input_channels=3, classes=10) if layer.kind is LayerKind.MUL]
    assert [gate.name for gate in gates] == [f"block2_{repeat}_se_scale" for repeat in range(3)]
    assert all(gate.input_shapes[1] == (gate.input_shape[0], 1, 1) for gate in gates)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block0_e": "six"}, "block0_e cannot be 'six'"),
        ({"block3_se": "maybe"}, "block3_se cannot be 'maybe'"),
        ({"block6_l": "99"}, "block6_l cannot be 99"),
        ({"block2_k": None}, "block2_k is missing"),
    ],
)
def test_a_corrupt_row_is_refused_by_its_column(changes: dict[str, str | None], message: str) -> None:
    row = {**format_columns(MNASNET.middle()), **changes}
    with pytest.raises(ConfigError, match=message):
        parse_columns({column: text for column, text in row.items() if text is not None})
