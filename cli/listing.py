"""`lanefit list`: what can be named on the command line, and which operators the engine takes."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from .command import command
from .options import TargetOption
from .output import Output
from .tables import table

if TYPE_CHECKING:
    from ..targets.spec import EngineSpec

Rows = tuple[tuple[str, ...], list[tuple[str, ...]]]


class Kind(StrEnum):
    """What `lanefit list` can list."""

    TARGETS = "targets"
    FAMILIES = "families"
    TASKS = "tasks"
    KERNELS = "kernels"
    PROXIES = "proxies"
    STRATEGIES = "strategies"
    SAMPLERS = "samplers"
    OPS = "ops"


@command
def list_(
    output: Output,
    kind: Annotated[Kind, typer.Argument(metavar="KIND", help=f"One of {', '.join(Kind)}.", show_default=False)],
    target: TargetOption = "",
) -> int:
    """List what can be named: targets, families, tasks, strategies and so on, or the supported operators."""
    if target:
        from ..targets.spec import load_spec

        target = load_spec(target).name
    headers, rows = _LISTS[kind]()
    title = f"operators that {target or 'an engine'} takes, and the rules for each" if kind is Kind.OPS else ""
    documents = [dict(zip(headers, row, strict=True)) for row in rows]
    shown = _once(rows) if kind is Kind.OPS else rows
    output.result({"kind": kind.value, "items": documents}, table(headers, shown, title=title))
    return 0


def _once(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The rows with a first cell only where it changes."""
    before = ["", *(row[0] for row in rows)]
    return [("" if row[0] == last else row[0], *row[1:]) for last, row in zip(before, rows, strict=False)]


def _targets() -> Rows:
    from ..targets.spec import load_spec, preset_names

    headers = (
        "name", "parallelism", "dataflow", "clock_mhz", "sram_bytes", "sram_bytes_per_cycle", "dram_bytes_per_cycle",
        "flash_bytes_per_cycle", "channels_in_x_out",
    )  # fmt: skip
    return headers, [_target(load_spec(name)) for name in preset_names()]


def _target(spec: EngineSpec) -> tuple[str, ...]:
    # An engine whose maps stay in SRAM and whose constants come from flash has no DRAM, whatever rate is noted for it.
    dram = spec.dram_bytes_per_cycle if spec.spill or spec.io_memory == "dram" else 0.0
    rates = (spec.clock_mhz, float(spec.sram_bytes), spec.sram_bytes_per_cycle, dram, spec.flash_bytes_per_cycle)
    inputs, outputs = spec.channel_multiples
    shown = (f"{value:.10g}" for value in rates)
    return spec.name, str(spec.parallelism), spec.dataflow, *shown, f"{inputs}x{outputs}"


def _families() -> Rows:
    from ..models.registry import families

    return ("name", "summary"), [(name, families.get(name).summary) for name in families]


def _tasks() -> Rows:
    from ..models.registry import tasks

    found = [tasks.get(name) for name in tasks]
    rows = [(task.name, str(task.classes), str(task.channels), task.summary) for task in found]
    folder = ("folder:PATH", "", "3", "images under PATH, one subfolder per class")
    return ("name", "classes", "channels", "summary"), [*rows, folder]


def _kernels() -> Rows:
    from ..kernels.search import kernels

    found = [(name, kernels.get(name)) for name in kernels]
    return ("subgraph", "unit", "kernel"), [(n, k.unit.name.lower(), _first_line(k)) for n, k in found]


def _proxies() -> Rows:
    from ..nas.proxies import PROXIES

    found = [PROXIES.get(name) for name in PROXIES]
    return ("name", "summary", "source"), [(p.name, p.summary, p.source) for p in found]


def _strategies() -> Rows:
    from ..nas.strategies import STRATEGIES

    found = [STRATEGIES.get(name) for name in STRATEGIES]
    return ("name", "trains", "summary"), [(s.name, "yes" if s.trains else "no", s.summary) for s in found]


def _samplers() -> Rows:
    from ..nas.samplers import SAMPLERS

    return ("name", "summary"), [(name, _first_line(SAMPLERS.get(name))) for name in SAMPLERS]


def _ops() -> Rows:
    from ..export.placement import support_table

    return ("operator", "rule", "meaning"), list(support_table())


def _first_line(item: object) -> str:
    text = item.__doc__ or ""
    return text.strip().splitlines()[0] if text.strip() else ""


_LISTS: dict[Kind, Callable[[], Rows]] = {
    Kind.TARGETS: _targets,
    Kind.FAMILIES: _families,
    Kind.TASKS: _tasks,
    Kind.KERNELS: _kernels,
    Kind.PROXIES: _proxies,
    Kind.STRATEGIES: _strategies,
    Kind.SAMPLERS: _samplers,
    Kind.OPS: _ops,
}
