"""Weights load early enough that nobody waits, no earlier than memory allows, and SRAM is never promised twice."""

from lanefit.export.overlap import Overlap, overlaps, with_slots
from lanefit.kernels.kernel import Role
from lanefit.kernels.ops import Conv2d, Requantise, Window
from lanefit.kernels.search import Candidate, candidates
from lanefit.kernels.subgraph import Memory, Subgraph
from lanefit.targets.spec import load_spec

NE256 = load_spec("ne-256")
SRAM = Memory.SRAM
SHORT = Subgraph((Requantise((4, 4, 16)),), SRAM, SRAM)
HEAVY = Subgraph((Conv2d((4, 4, 256), (4, 4, 256), Window(1, 1)),), SRAM, SRAM)
PLENTY = 10**6


def _chosen(*subgraphs: Subgraph) -> list[Candidate]:
    return [candidates(subgraph, NE256)[0] for subgraph in subgraphs]


def _overlaps(subgraphs: list[Subgraph], free: list[int]) -> list[Overlap]:
    return overlaps(subgraphs, _chosen(*subgraphs), NE256, free)


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
        for step, (choice, overlap) in enumerate(zip(chosen, overlaps(work, chosen, NE256, free), strict=True)):
            tile = sum(b.slot_bytes for b in choice.buffers if b.role is Role.WEIGHTS)
            base = sum(b.depth for b in choice.buffers if b.role is Role.WEIGHTS)
            free[step] -= (overlap.slots - base) * tile if tile else 0
            for before in range(step - overlap.ahead, step):
                free[before] -= overlap.slots * tile
        assert min(free) >= 0
