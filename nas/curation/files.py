"""A curated space as settings of a search: `lanefit search --config FILE`."""

from __future__ import annotations

from pathlib import Path

from ...common.files import write_atomic
from ..config import SearchConfig
from ..space import Space
from .report import CurationReport


def curated_config(space: Space, *, target: str = "", task: str = "") -> SearchConfig:
    """Settings that search `space` as it is, its values in the order of cost."""
    values = {knob.name: list(knob.values) for knob in space.knobs}
    named = {name: value for name, value in (("target", target), ("task", task)) if value}
    return SearchConfig().replaced(family=space.family.name, curate=False, ordered=True, knobs=values, **named)


def write_curated(
    space: Space, report: CurationReport, path: Path, *, target: str = "", task: str = ""
) -> Path:  # fmt: skip
    """The settings that differ from the defaults as TOML, with what was dropped and why as comments."""
    wanted, usual = curated_config(space, target=target, task=task), SearchConfig()
    lines = [f"# {space.family.name} curated for {report.target}: {_sizes(report)}"]
    settings = SearchConfig.to_toml(wanted).splitlines()
    defaults = set(SearchConfig.to_toml(usual).splitlines())
    reasons = {entry.knob: entry.dropped for entry in report.knobs}
    for line in settings:
        if line in defaults and line and not line.startswith("[knobs"):
            continue
        lines += [f"# dropped {drop.value}: {drop.reason}" for drop in reasons.get(line.partition(" =")[0], ())]
        lines.append(line)
    write_atomic(path, ("\n".join(lines) + "\n").encode())
    return path


def _sizes(report: CurationReport) -> str:
    return f"{report.cardinality_before:.2e} to {report.cardinality_after:.2e} architectures"
