"""`Judgement`: a budget's verdict on a compiled network, which owns up to what it cannot show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..common.budget import Budget, BudgetItem, Verdict
from .placement import Placement

PASSIVE_RULES = ("border", "view")  # quantise, dequantise and reshapes, as opposed to operators that the engine refused


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, and why some of it could not be shown; what is not shown is not passed."""

    verdict: Verdict
    unproven: str = ""

    @property
    def passed(self) -> bool:
        return self.verdict.passed and not self.unproven

    @property
    def items(self) -> tuple[BudgetItem, ...]:
        return self.verdict.items

    def __str__(self) -> str:
        items = str(self.verdict).partition("  ")[2]
        return f"{'PASS' if self.passed else 'FAIL'}  {items}" + (f"; {self.unproven}" if self.unproven else "")

    def as_dict(self) -> dict[str, Any]:
        return {**self.verdict.as_dict(), "passed": self.passed, "unproven": self.unproven}


def judge(
    budget: Budget, placements: Iterable[Placement], *, latency_us: float, sram_bytes: int, weight_bytes: int
) -> Judgement:
    """Latency, SRAM and weights against `budget`; operators on the CPU leave a latency limit unproven.

    An accuracy floor needs data and is left out.
    """
    hardware = budget.hardware()
    verdict = hardware.check(latency_us=latency_us, sram_bytes=sram_bytes, weight_bytes=weight_bytes)
    count = len(refused(placements))
    if hardware.latency_us is None or not count:
        return Judgement(verdict)
    operators = "1 operator runs" if count == 1 else f"{count} operators run"
    return Judgement(verdict, f"latency not proven: {operators} on the CPU, whose time is not modelled")


def refused(placements: Iterable[Placement]) -> tuple[Placement, ...]:
    """Operators that run on the CPU because a rule or the compiler refused them."""
    return tuple(p for p in placements if p.where == "cpu" and p.rule not in PASSIVE_RULES)


def passive(placements: Iterable[Placement]) -> tuple[Placement, ...]:
    """Quantise, dequantise and reshape operators on the CPU at the borders of the engine's part."""
    return tuple(p for p in placements if p.where == "cpu" and p.rule in PASSIVE_RULES)
