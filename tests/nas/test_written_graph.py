"""Identities of cells as operators: the wiring is that of the optimised graph."""

from __future__ import annotations

import numpy as np
import pytest

from lanefit.common.errors import UnknownNameError
from lanefit.estimator.opgraph.operator import Kind
from lanefit.estimator.opgraph.semantics import is_connected
from lanefit.models.cell_string import SKIP
from lanefit.models.registry import families
from lanefit.nas.operator_bridge import architecture_graph
from lanefit.nas.written_graph import READINGS, read_architecture, written_graph


def test_every_skip_connection_is_one_copy_and_nothing_else_changes() -> None:
    family, generator = families.get("nas-bench-201"), np.random.default_rng(3)
    for _ in range(20):
        architecture = family.sample(generator)
        plain, written = architecture_graph(architecture), written_graph(architecture)
        skips = sum(value == SKIP for _, value in architecture.knobs)
        copies = [operator for operator in written.operators if operator.kind == Kind.COPY]
        assert len(copies) == 15 * skips
        rest = sorted(operator.digest() for operator in written.operators if operator.kind != Kind.COPY)
        assert rest == sorted(operator.digest() for operator in plain.operators)
        assert is_connected(written)


def test_families_without_identities_read_the_same_either_way() -> None:
    architecture = families.get("mnasnet").sample(np.random.default_rng(1))
    assert read_architecture(architecture, "nominal") == read_architecture(architecture, "nominal+identities")


def test_readings_differ_where_a_cell_has_dead_operators() -> None:
    family, generator = families.get("nas-bench-201"), np.random.default_rng(4)
    architectures = [family.sample(generator) for _ in range(10)]
    totals = {name: [sum(read_architecture(a, name).operators.values()) for a in architectures] for name in READINGS}
    assert sum(totals["live"]) < sum(totals["nominal"])
    assert all(few <= many for few, many in zip(totals["live"], totals["backward"], strict=True))


def test_an_unknown_reading_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="backward"):
        read_architecture(families.get("nas-bench-201").sample(np.random.default_rng(0)), "sideways")
