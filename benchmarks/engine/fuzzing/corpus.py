"""What mutations start from: the smallest compiled programs that hold each opcode, and packages of some of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from lanefit.common.errors import UnsupportedError
from lanefit.common.files import canonical_json
from lanefit.export.compiler import compile_graph
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
from lanefit.export.random_graphs import random_graph, random_spec
from lanefit.targets.encoding import encode
from lanefit.targets.isa import FIELDS, NO_LIMIT, UNIT_OPCODES, Instruction, Opcode, Unit
from lanefit.targets.program import Mark, Port, Program
from lanefit.targets.spec import EngineSpec, load_spec, preset_names
from lanefit.targets.validate import validate

from .packages import Files, members
from .programs import Draft

_SMALL = 600  # executed instructions
_GRAPHS = 240  # drawn; operators that none of them has are left to the lone instructions
_PER_OPCODE = 3
_LONE_SRAM_BYTES = 256


@dataclass(frozen=True, slots=True)
class Corpus:
    """Seeds: `compiled` run as they are, `lone` programs hold one instruction each, that need not have a meaning."""

    compiled: tuple[Program, ...]
    lone: tuple[Program, ...]
    packages: tuple[bytes, ...]
    drafts: tuple[Draft, ...]
    archives: tuple[Files, ...]


@cache
def corpus() -> Corpus:
    """The same in every process."""
    compiled = tuple(_smallest(list(_compiled())))
    lone = tuple(_lone(unit, opcode) for unit in Unit for opcode in sorted(UNIT_OPCODES[unit]) if opcode >= Opcode.LOAD)
    packages = tuple(_package(list(compiled[start : start + 2])) for start in (0, 2, 3))
    drafts = tuple(Draft(encode(program)) for program in (*compiled, *compiled, *lone))
    return Corpus(compiled, lone, packages, drafts, tuple(map(members, packages)))


def _compiled() -> Iterator[Program]:
    presets = [load_spec(name) for name in preset_names()]
    for seed in range(_GRAPHS):
        rng = np.random.default_rng([seed, 88])
        graph = random_graph(rng, max_ops=1 + seed % 3)
        try:
            program = compile_graph(graph, random_spec(rng, presets, graph)).program
        except UnsupportedError:  # this engine is too small for the graph
            continue
        if validate(program) <= _SMALL:
            yield program


def _smallest(programs: list[Program]) -> list[Program]:
    """For every opcode the smallest programs that hold it, in a stable order and each once."""
    chosen: dict[int, Program] = {}
    programs.sort(key=lambda program: (validate(program), len(program.constants)))
    for opcode in Opcode:
        holders = [p for p in programs if any(i.opcode is opcode for queue in p.queues.values() for i in queue)]
        chosen |= {id(program): program for program in holders[:_PER_OPCODE]}
    return list(chosen.values())


def _lone(unit: Unit, opcode: Opcode) -> Program:
    """One instruction over one element, from fields that most opcodes can execute."""
    fields = tuple(_neutral(name, position) for position, name in enumerate(FIELDS[opcode]))
    port = Port("x", 64, (64,), 1.0, 0)
    return Program(
        spec=_tiny(),
        queues={u: (Instruction(opcode, fields),) if u is unit else () for u in Unit},
        constants=bytes(range(64)),
        dram_bytes=192,
        sram_bytes=_LONE_SRAM_BYTES,
        inputs=(port,),
        outputs=(Port("y", 128, (64,), 1.0, 0),),
        marks=(Mark(unit, 0, opcode.name.lower()),),
    )


def _neutral(name: str, position: int) -> int:
    if "limit" in name:
        return NO_LIMIT
    if name.endswith(("count", "kernel_h", "kernel_w", "stride_h", "stride_w", "rows", "cols", "channels_in")):
        return 1
    if name.startswith("count"):
        return 1
    if "multiplier" in name or "shift" in name:
        return 30
    if name.endswith("_max"):
        return 127
    if name.endswith("_addr"):
        return 128 if name.startswith("dram") else position * 4 % _LONE_SRAM_BYTES
    return 0


def _tiny() -> EngineSpec:
    return load_spec("ne-64")


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
    files = {INT8_MODEL: b"model", PLACEMENT: canonical_json({"operators": operators, "subgraphs": []}).encode()}
    files |= {program_name(number): encode(program) for number, program in enumerate(same)}
    return package_bytes(Package(manifest, files))
