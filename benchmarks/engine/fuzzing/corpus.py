"""What mutations start from: the smallest compiled programs that hold each opcode, and packages of some of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
import torch

from lanefit.common.errors import UnsupportedError
from lanefit.common.files import canonical_json
from lanefit.export.compiler import compile_graph
from lanefit.export.cuboid_graph import cuboid_graph
from lanefit.export.package import (
    INT8_MODEL,
    PLACEMENT,
    Manifest,
    Package,
    RegionInfo,
    TargetInfo,
    package_bytes,
    program_name,
)
from lanefit.export.precision import Precision, with_precision
from lanefit.export.random_graphs import random_graph, random_spec
from lanefit.kernels.cuboid_definition import CuboidSelfAttention, parameters_of
from lanefit.kernels.element_types import PRECISIONS
from lanefit.targets.encoding import encode
from lanefit.targets.isa import TYPE_FIELDS, DType, Instruction
from lanefit.targets.program import Program
from lanefit.targets.spec import load_spec, preset_names
from lanefit.targets.timing import simulate
from lanefit.targets.validate import validate

from .judge import BUDGET
from .lone import lone_programs
from .packages import Files, members
from .programs import Draft

_SMALL = 600  # executed instructions
_GRAPHS = 240  # drawn; what none of them has is left to the lone instructions
_PER_FEATURE = 3


@dataclass(frozen=True, slots=True)
class Corpus:
    """Seeds, all of which run undamaged: compiled graphs, and for each data opcode and type a program around it."""

    compiled: tuple[Program, ...]
    lone: tuple[Program, ...]
    packages: tuple[bytes, ...]
    drafts: tuple[Draft, ...]
    archives: tuple[Files, ...]


@cache
def corpus() -> Corpus:
    """The same in every process."""
    compiled = (*_smallest(list(_compiled())), *_attention())
    lone = lone_programs()
    wide = [program for program in compiled if any("BF16" in feature for feature in _features(program))]
    starts = (*(compiled[start : start + 2] for start in (0, 2, 3)), wide[:2], compiled[-2:])
    packages = tuple(_package(list(programs)) for programs in starts)
    drafts = tuple(Draft(encode(program)) for program in (*compiled * 2, *lone))
    return Corpus(compiled, lone, packages, drafts, tuple(map(members, packages)))


def _compiled() -> Iterator[Program]:
    presets = [load_spec(name) for name in preset_names()]
    for seed in range(_GRAPHS):
        rng = np.random.default_rng([seed, 88])
        graph = random_graph(rng, max_ops=1 + seed % 3, functions=0.4)
        if seed % 2:  # ports stay int8
            graph = with_precision(graph, Precision(str(rng.choice(list(PRECISIONS)))))
        try:
            program = compile_graph(graph, random_spec(rng, presets, graph)).program
        except UnsupportedError:  # this engine is too small for the graph, or no RESCALE reaches its scales
            continue
        if validate(program) <= _SMALL and _work(program) <= BUDGET.work // 2:
            yield program


def _attention() -> Iterator[Program]:
    """Cuboid attention, whose ports are tokens: in int8 and bf16, without and with global vectors."""
    size, channels = (1, 2, 4), 4
    for precision, vectors in product(("int8", "bf16"), (0, 1)):
        torch.manual_seed(vectors)
        layer = CuboidSelfAttention(channels, 1, (1, 2, 2), use_global_vector=bool(vectors))
        graph = cuboid_graph(parameters_of(layer, size), global_vectors=vectors)
        yield compile_graph(with_precision(graph, Precision(precision)), load_spec("ne-64")).program


def _work(program: Program) -> int:
    """About what the emulator counts, from the cycle model, so that a seed which faults is not left out."""
    timing = simulate(program)
    return timing.macs + timing.vector_elements + timing.dram_bytes


def _smallest(programs: list[Program]) -> list[Program]:
    """For every opcode and kind of port the smallest programs that have it, in a stable order and each once."""
    chosen: dict[int, Program] = {}
    programs.sort(key=lambda program: (validate(program), len(program.constants)))
    for feature in sorted(set().union(*map(_features, programs))):
        holders = [program for program in programs if feature in _features(program)]
        chosen |= {id(program): program for program in holders[:_PER_FEATURE]}
    return list(chosen.values())


def _features(program: Program) -> set[str]:
    opcodes = {_shown(instruction) for queue in program.queues.values() for instruction in queue}
    return opcodes | {f"{port.memory} port" for port in (*program.inputs, *program.outputs)}


def _shown(instruction: Instruction) -> str:
    """The opcode, and the type of its first operand where it has one."""
    types = [DType(instruction.fields[position]).name for position in TYPE_FIELDS[instruction.opcode][:1]]
    return " ".join((instruction.opcode.name, *types))


def _package(programs: list[Program]) -> bytes:
    """Two regions of one engine, or one when the second program is for another."""
    same = [program for program in programs if program.spec == programs[0].spec]
    regions = tuple(
        RegionInfo(
            program=program_name(number),
            inputs=tuple(port.name for port in program.inputs),
            outputs=tuple(port.name for port in program.outputs),
        )
        for number, program in enumerate(same)
    )
    spec = same[0].spec
    manifest = Manifest(
        name="seed", inputs=(), outputs=(), regions=regions, target=TargetInfo(name=spec.name, digest=spec.digest())
    )
    operators = [
        {"node": "conv", "op_type": "Conv", "where": "engine", "rule": None, "value": None, "region": 0,
         "subgraph": same[0].marks[0].label}
    ]  # fmt: skip
    buffers = [
        {"region": 0, "name": "0/weights", "kind": "weights", "label": "conv", "address": 0, "size_bytes": 64,
         "start_us": 0.0, "end_us": 1.5}
    ]  # fmt: skip
    files = {INT8_MODEL: b"model", PLACEMENT: canonical_json({"operators": operators, "sram": buffers}).encode()}
    files |= {program_name(number): encode(program) for number, program in enumerate(same)}
    return package_bytes(Package(manifest, files))
