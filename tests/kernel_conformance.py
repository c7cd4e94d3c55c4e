"""What any kernel must satisfy. Subclass `KernelConformance` and give `subgraphs`; a plug-in sits the same exam."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from lanefit.export.lower import compile_subgraph
from lanefit.kernels.kernel import Kernel, Role
from lanefit.kernels.search import Candidate, candidates, kernels
from lanefit.kernels.subgraph import Subgraph, subgraph_from_dict
from lanefit.targets.isa import UNIT_OPCODES, Unit
from lanefit.targets.spec import EngineSpec, load_spec, preset_names
from lanefit.targets.timing import simulate
from lanefit.targets.validate import validate


class KernelConformance:
    """The laws; `subgraphs` are samples of what the kernel runs."""

    subgraphs: Sequence[Subgraph] = ()
    units: frozenset[Unit] = frozenset()  # of kernels that use more than their own unit

    @pytest.fixture(params=["ne-64", "ne-256"])
    def spec(self, request: pytest.FixtureRequest) -> EngineSpec:
        return load_spec(request.param)

    def _cases(self, spec: EngineSpec) -> list[tuple[Kernel, Subgraph, Candidate]]:
        assert self.subgraphs
        return [(kernels.get(s.kind), s, c) for s in self.subgraphs for c in candidates(s, spec)]

    def test_every_point_of_the_space_covers_the_output(self, spec: EngineSpec) -> None:
        for _, subgraph, choice in self._cases(spec):
            height, _, channels = subgraph.ops[-1].output
            assert 1 <= choice.tiling.rows <= height
            assert 1 <= choice.tiling.channels <= channels

    def test_closed_form_cycles_and_buffers_are_positive(self, spec: EngineSpec) -> None:
        for _, _, choice in self._cases(spec):
            assert choice.estimate.cycles > 0
            assert choice.estimate.compute > 0
            assert all(b.slot_bytes > 0 and b.depth > 0 for b in choice.buffers)

    def test_streamed_maps_have_buffers_and_resident_maps_have_none(self, spec: EngineSpec) -> None:
        for _, subgraph, choice in self._cases(spec):
            roles = {buffer.role for buffer in choice.buffers}
            assert subgraph.streams == bool(roles & {Role.INCOMING, Role.OUTGOING})

    def test_the_program_is_valid_and_uses_only_the_kernels_unit(self, spec: EngineSpec) -> None:
        for kernel, subgraph, choice in self._cases(spec):
            program = compile_subgraph(subgraph, spec, choice)
            validate(program)
            used = {kernel.unit} | self.units
            assert all(not program.queues[unit] for unit in {Unit.ARRAY, Unit.VECTOR} - used)
            assert all({i.opcode for i in program.queues[unit]} <= UNIT_OPCODES[unit] for unit in used)

    def test_the_closed_form_is_near_the_timing_model(self, spec: EngineSpec) -> None:
        for _, subgraph, choice in self._cases(spec):
            measured = simulate(compile_subgraph(subgraph, spec, choice)).cycles
            assert 0.5 < choice.estimate.cycles / measured < 1.6, (subgraph, choice)

    def test_a_faster_dram_never_slows_the_program(self, spec: EngineSpec) -> None:
        faster = replace(spec, dram_bytes_per_cycle=spec.sram_bytes_per_cycle)
        for _, subgraph, choice in self._cases(spec):
            slow = simulate(compile_subgraph(subgraph, spec, choice)).cycles
            assert simulate(compile_subgraph(subgraph, faster, choice)).cycles <= slow

    def test_a_subgraph_survives_its_dictionary(self) -> None:
        for subgraph in self.subgraphs:
            assert subgraph_from_dict(subgraph.as_dict()) == subgraph

    def test_every_preset_can_run_the_samples(self) -> None:
        for name in preset_names():
            assert all(candidates(subgraph, load_spec(name)) for subgraph in self.subgraphs)
