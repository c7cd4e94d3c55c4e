"""`lanefit inspect`: what is inside a package or program file. Nothing in it is executed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..common.files import sha256
from ..common.units import format_bytes
from .command import command
from .output import Output
from .tables import pairs, table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ..export.package import Package, PlacedBuffer
    from ..targets.program import Program

Section = tuple[dict[str, Any], "list[RenderableType]"]


@command
def inspect(
    output: Output,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A *.lanefit package or a program *.bin.", show_default=False)
    ],
    disassemble: Annotated[
        bool, typer.Option("--disassemble", help="Print the instructions with their layers.")
    ] = False,
    memory: Annotated[
        bool, typer.Option("--memory", help="Print the layout of DRAM, and what lies in SRAM when.")
    ] = False,
    placement: Annotated[bool, typer.Option("--placement", help="Print where each operator runs, and why.")] = False,
) -> int:
    """Show members, ports, instruction counts and checksums of a package or program, without running it."""
    from ..targets.encoding import decode

    package, codes = _read(file)
    programs = {name: decode(code) for name, code in codes.items()}
    sections = [_package(package)] if package else []
    sections += [_program(name, program, codes[name]) for name, program in programs.items()]
    if memory:
        plans = _plans(package)
        sections += [_memory(name, program, plans.get(n, [])) for n, (name, program) in enumerate(programs.items())]
    if placement:
        sections.append(_placement(file, package))
    if disassemble:
        notes = _sources(package)
        sections += [
            _listing(name, program, notes.get(number, {})) for number, (name, program) in enumerate(programs.items())
        ]
    document: dict[str, Any] = {"file": str(file)}
    for part, _ in sections:
        for key, value in part.items():
            document[key] = {**document.get(key, {}), **value} if isinstance(value, dict) else value
    output.result(document, *(shown for _, tables in sections for shown in tables))
    return 0


def _read(file: Path) -> tuple[Package | None, dict[str, bytes]]:
    """The package, where it is one, and the program files by name."""
    from ..common.errors import InputError
    from ..export.package import read_package

    if file.suffix != ".bin":
        package = read_package(file)
        return package, {region.program: package.files[region.program] for region in package.manifest.regions}
    try:
        return None, {file.name: file.read_bytes()}
    except OSError as error:
        raise InputError(f"cannot read {file.name}: {error.strerror}", where=str(file)) from error


def _package(package: Package) -> Section:
    manifest = package.manifest
    document = manifest.model_dump(mode="json")
    rows = [(name, format_bytes(len(data)), sha256(data)) for name, data in sorted(package.files.items())]
    document["members"] = {
        name: {"size_bytes": len(data), "sha256": sha256(data)} for name, data in package.files.items()
    }
    del document["checksums"]
    ports = [(kind, t.name, _shape(t.shape), t.dtype, _scale(t.scale, t.zero_point))
             for kind, found in (("input", manifest.inputs), ("output", manifest.outputs)) for t in found]  # fmt: skip
    about = [("name", manifest.name), ("target", f"{manifest.target.name} ({manifest.target.digest})")]
    about += [(name, f"{value:,g}") for name, value in sorted(manifest.figures.items())]
    about += [(name, value) for name, value in sorted({**manifest.toolchain, **manifest.provenance}.items())]
    if manifest.verdict is not None:
        about.append(("budget", "met" if manifest.verdict.get("passed") else "missed"))
    shown: list[RenderableType] = [
        pairs(about),
        table(("member", "size", "sha256"), rows, numbers=("size",)),
        table(("", "tensor", "shape", "type", "int8 form"), ports),
    ]
    return document, shown


def _program(name: str, program: Program, code: bytes) -> Section:
    from ..targets.encoding import split_sections
    from ..targets.isa import ISA_VERSION
    from ..targets.summary import instruction_counts

    counts = {unit.name: found for unit, found in instruction_counts(program).items()}
    facts = {
        "instruction_set": ISA_VERSION,
        "engine": program.spec.name,
        "constants_bytes": len(program.constants),
        "constants_sha256": sha256(program.constants),
        "dram_bytes": program.dram_bytes,
        "sram_bytes": program.sram_bytes,
        "subgraphs": len({mark.label for mark in program.marks}),
    }
    rows = [
        (unit, sum(found.values()), ", ".join(f"{op} {n}" for op, n in found.items())) for unit, found in counts.items()
    ]
    sizes = {section: len(data) for section, data in split_sections(code).items()}
    parts = [(section, format_bytes(size), f"{size / len(code):.1%}") for section, size in sizes.items()]
    shown: list[RenderableType] = [
        pairs(facts.items(), title=name),
        table(("section", "size", "share"), parts, numbers=("size", "share")),
        table(("unit", "instructions", "of which"), rows, numbers=("instructions",)),
    ]
    return {"programs": {name: {**facts, "size_bytes": len(code), "sections": sizes, "instructions": counts}}}, shown


def _plans(package: Package | None) -> dict[int, list[PlacedBuffer]]:
    """By region, what lies in SRAM when; a program file does not say."""
    from ..export.package import read_placements

    found: dict[int, list[PlacedBuffer]] = {}
    for item in read_placements(package).sram if package else ():
        found.setdefault(item.region, []).append(item)
    return found


def _memory(name: str, program: Program, plan: list[PlacedBuffer]) -> Section:
    from ..targets.summary import dram_map

    ranges = dram_map(program)
    rows = [(f"{r.start:#010x}", format_bytes(r.size_bytes), r.kind, r.name) for r in ranges]
    found = {
        "dram": [{"name": r.name, "kind": r.kind, "start": r.start, "size_bytes": r.size_bytes} for r in ranges],
        "sram": [item.model_dump(exclude={"region"}) for item in plan],
        "sram_peak_bytes": program.sram_bytes,
        "sram_bytes": program.spec.sram_bytes,
    }
    shown: list[RenderableType] = [table(("DRAM", "size", "holds", "name"), rows, title=name, numbers=("size",))]
    if plan:
        times = ("from us", "to us")
        places = [(f"{i.address:#010x}", format_bytes(i.size_bytes), i.kind, i.name, f"{i.start_us:.1f}",
                   f"{i.end_us:.1f}") for i in plan]  # fmt: skip
        shown.append(table(("SRAM", "size", "holds", "name", *times), places, numbers=("size", *times)))
    peak = f"SRAM peak {format_bytes(program.sram_bytes)} of {format_bytes(program.spec.sram_bytes)}"
    return {"memory": {name: found}}, [*shown, peak]


def _placement(file: Path, package: Package | None) -> Section:
    from ..common.errors import ConfigError
    from ..export.package import PLACEMENT, read_placements

    if package is None:
        raise ConfigError("a program file has no placement table", where=str(file), hint="inspect the package instead")
    rows = [
        (item.node, item.op_type, item.where, item.subgraph or "", item.rule or "", item.value or "")
        for item in read_placements(package).operators
    ]
    headers = ("operator", "type", "on", "subgraph", "rule", "value")
    return {"placement": json.loads(package.files[PLACEMENT])}, [table(headers, rows)]


def _sources(package: Package | None) -> dict[int, dict[str, str]]:
    """By region and subgraph, the ONNX operators that it was made from; a program file does not say."""
    from ..export.package import read_placements

    found: dict[int, dict[str, str]] = {}
    for item in read_placements(package).operators if package else ():
        if item.subgraph is not None and item.region is not None:
            region = found.setdefault(item.region, {})
            before = f"{region[item.subgraph]}, " if item.subgraph in region else "from "
            region[item.subgraph] = f"{before}{item.op_type} {item.node}"
    return found


def _listing(name: str, program: Program, notes: dict[str, str]) -> Section:
    from ..targets.assembly import disassemble

    text = disassemble(program, constants=False, notes=notes)
    return {"disassembly": {name: text}}, [f"; {name}\n{text.rstrip()}"]


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _scale(scale: float | None, zero_point: int | None) -> str:
    return "" if scale is None else f"scale {scale:g}, zero point {zero_point}"
