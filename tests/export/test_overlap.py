"""Weights load early enough that nobody waits, no earlier than memory allows, and SRAM is never promised twice."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanefit.export.compiler import compile_graph
from lanefit.export.overlap import Overlap, Timetable, with_slots
from lanefit.export.random_graphs import GraphBuilder
from lanefit.kernels.kernel import Role
from lanefit.kernels.ops import Conv2d, Requantise, Window
from lanefit.kernels.search import Candidate, candidates
from lanefit.kernels.subgraph import Memory, Subgraph
from lanefit.targets.spec import load_spec

NE256 = load_spec("ne-256")
RESIDENT = replace(load_spec("ethos-u55-128"), weight_decoder=False)  # inputs and outputs lie in SRAM as well
SRAM = Memory.SRAM
SHORT = Subgraph((Requantise((4, 4, 16)),), SRAM, SRAM)
HEAVY = Subgraph((Conv2d((4, 4, 256), (4, 4, 256), Window(1, 1)),), SRAM, SRAM)
PLENTY = 10**6


def _chosen(*subgraphs: Subgraph) -> list[Candidate]:
    return [candidates(subgraph, NE256)[0] for subgraph in subgraphs]


def _overlaps(subgraphs: list[Subgraph], free: list[int]) -> tuple[Overlap, ...]:
    return Timetable(subgraphs, _chosen(*subgraphs), NE256).overlaps(free)


def test_weights_that_one_step_cannot_hide_load_several_steps_ahead() -> None:
    work = [SHORT, SHORT, SHORT, HEAVY]
    assert [overlap.ahead for overlap in _overlaps(work, [PLENTY] * 4)] == [0, 0, 0, 3]


def test_no_room_means_no_overlap() -> None:
    work = [SHORT, HEAVY, SHORT, HEAVY]
    assert all(overlap.ahead == 0 for overlap in _overlaps(work, [0] * 4))


def test_one_crowded_step_ends_the_run_ahead() -> None:
    free = [PLENTY, 0, PLENTY, PLENTY]
    assert _overlaps([SHORT, SHORT, SHORT, HEAVY], free)[3].ahead == 1


def test_a_step_bound_by_its_weights_holds_more_than_two_tiles() -> None:
    found = _overlaps([SHORT, HEAVY], [PLENTY] * 2)[1]
    choice = with_slots(_chosen(HEAVY)[0], HEAVY, NE256, found.slots)
    (weights,) = (buffer for buffer in choice.buffers if buffer.role is Role.WEIGHTS)
    assert weights.depth == found.slots > 2


def test_memory_is_promised_once() -> None:
    work = [SHORT, SHORT, HEAVY, HEAVY]
    for room in range(0, 100_000, 7_000):
        free = [room] * 4
        chosen = _chosen(*work)
        for step, (choice, overlap) in enumerate(zip(chosen, _overlaps(work, free), strict=True)):
            tile = sum(b.slot_bytes for b in choice.buffers if b.role is Role.WEIGHTS)
            base = sum(b.depth for b in choice.buffers if b.role is Role.WEIGHTS)
            free[step] -= (overlap.slots - base) * tile if tile else 0
            for before in range(step - overlap.ahead, step):
                free[before] -= overlap.slots * tile
        assert min(free) >= 0


def test_more_room_is_never_expected_to_take_longer() -> None:
    work = [SHORT, SHORT, HEAVY, SHORT, HEAVY]
    table = Timetable(work, _chosen(*work), NE256)
    cycles = [table.expected_cycles(table.overlaps([room] * 5)) for room in range(0, 200_000, 9_000)]
    assert cycles == sorted(cycles, reverse=True)
    assert cycles[-1] < cycles[0]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([16, 64, 256]), st.sampled_from([1, 4, 12])), min_size=2, max_size=8))
def test_expected_cycles_are_those_of_the_timing_model_for_resident_convolutions(layers: list[tuple[int, int]]) -> None:
    build = GraphBuilder(np.random.default_rng(0))
    size = layers[0][1]
    source, channels = build.tensor("input", (size, size, 16), 0.1), 16
    for count, _ in layers:
        source = build.add_node(Conv2d((size, size, channels), (size, size, count), Window(1, 1)), source)
        channels = count
    compiled = compile_graph(build.graph((source,)), RESIDENT)
    steps = compiled.plan.steps
    found = [Overlap(step.ahead, step.choice.tiling.slots, step.drain) for step in steps]
    expected = Timetable([s.subgraph for s in steps], [s.choice for s in steps], RESIDENT).expected_cycles(found)
    assert expected == pytest.approx(compiled.timing.cycles, rel=0.05, abs=100)
