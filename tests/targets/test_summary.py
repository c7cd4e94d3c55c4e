"""The DRAM of a program is described without gaps or overlaps."""

from __future__ import annotations

import pytest

from lanefit.export.blank import with_zero_weights
from lanefit.export.compiler import compile_graph
from lanefit.models.baselines import mobilenet_v2
from lanefit.models.registry import families
from lanefit.nas.bridge import to_graph
from lanefit.targets.isa import Unit
from lanefit.targets.program import Program
from lanefit.targets.spec import load_spec
from lanefit.targets.summary import dram_map, instruction_counts


@pytest.fixture(scope="module")
def program() -> Program:
    architecture = mobilenet_v2(0.35, 32)
    layers = families.get(architecture.family).layers(architecture, input_channels=1, classes=10)
    return compile_graph(with_zero_weights(to_graph(layers)), load_spec("ne-64")).program


def test_ranges_cover_the_dram_once(program: Program) -> None:
    ranges = dram_map(program)
    ends = [item.start + item.size_bytes for item in ranges]
    assert [item.start for item in ranges] == [0, *ends[:-1]]
    assert ends[-1] == program.dram_bytes
    assert {"constants", "input", "output"} <= {item.kind for item in ranges}


def test_every_instruction_is_counted(program: Program) -> None:
    counts = instruction_counts(program)
    assert {unit: sum(found.values()) for unit, found in counts.items()} == {
        unit: len(program.queues[unit]) for unit in Unit
    }
