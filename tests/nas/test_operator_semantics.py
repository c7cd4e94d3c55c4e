"""The semantics of dead operators on cells of NAS-Bench-201, whose published measurements they were found on."""

from __future__ import annotations

import numpy as np

from lanefit.estimator.opgraph.operator import Kind
from lanefit.estimator.opgraph.semantics import Semantics, apply_semantics, is_connected
from lanefit.models.architecture import Architecture
from lanefit.models.cell_string import CONV_3, EDGES, NONE, SKIP, format_cell
from lanefit.models.nas_bench_201 import CELLS_PER_STAGE, STAGE_CHANNELS, connected, parse_architecture
from lanefit.models.registry import families
from lanefit.nas.operator_bridge import architecture_graph

CELLS = CELLS_PER_STAGE * len(STAGE_CHANNELS)
OUTSIDE = 7
"""Convolutions of stem and reduction blocks."""


def cell(**edges: str) -> Architecture:
    named = {(int(name[1]), int(name[2])): operation for name, operation in edges.items()}
    return parse_architecture(format_cell({edge: named.get(edge, NONE) for edge in EDGES}))


def convolutions(architecture: Architecture, semantics: Semantics) -> int:
    executed = apply_semantics(architecture_graph(architecture), semantics).operators
    return sum(operator.kind == Kind.CONV for operator in executed) - OUTSIDE


def test_a_convolution_into_a_node_that_nobody_reads_is_dead_backward() -> None:
    unread = cell(e10=CONV_3, e30=SKIP)
    counts = [convolutions(unread, semantics) for semantics in Semantics]
    assert counts == [CELLS, 0, CELLS, 0]


def test_a_convolution_of_a_node_that_gets_nothing_is_dead_forward() -> None:
    starved = cell(e21=CONV_3, e32=SKIP, e30=SKIP)
    counts = [convolutions(starved, semantics) for semantics in Semantics]
    assert counts == [CELLS, CELLS, 0, 0]


def test_graphs_and_strings_agree_on_what_is_connected() -> None:
    family, generator = families.get("nas-bench-201"), np.random.default_rng(5)
    for _ in range(60):
        values = {knob.name: str(generator.choice(knob.values)) for knob in family.knobs()}
        architecture = Architecture.of("nas-bench-201", values)
        assert is_connected(architecture_graph(architecture)) == connected(architecture)
