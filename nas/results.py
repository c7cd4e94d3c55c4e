"""What a search found, as plain values: trials, finalists, winner and nearest misses. Reads back from run.json."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..common.budget import Budget, BudgetItem, Verdict
from ..models.architecture import Architecture
from .scoring import Cost


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One finished trial. `cost` is None when the target refused the architecture; `refusal` then says why.

    `scores` are zero-shot scores (minus infinity for a degenerate network), `accuracy` is present when
    the trial itself trained, `stopped` when that training was pruned. `values` is what the sampler was told.
    """

    index: int
    architecture: Architecture
    cost: Cost | None
    verdict: Verdict
    values: tuple[float, ...]
    refusal: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    accuracy: float | None = None
    curve: tuple[float, ...] = ()
    stopped: bool = False

    @property
    def feasible(self) -> bool:
        return self.cost is not None and self.verdict.passed

    @property
    def degenerate(self) -> bool:
        return any(not math.isfinite(score) for score in self.scores.values())

    def as_dict(self) -> dict[str, Any]:
        return {
            "index": self.index,
            "architecture": self.architecture.as_dict(),
            "cost": self.cost.as_dict() if self.cost else None,
            "verdict": self.verdict.as_dict(),
            "values": list(self.values),
            "refusal": self.refusal,
            "scores": {name: score if math.isfinite(score) else None for name, score in self.scores.items()},
            "accuracy": self.accuracy,
            "curve": list(self.curve),
            "stopped": self.stopped,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrialRecord:
        return cls(
            index=values["index"],
            architecture=Architecture.from_dict(values["architecture"]),
            cost=Cost(**values["cost"]) if values["cost"] else None,
            verdict=verdict_from_dict(values["verdict"]),
            values=tuple(values["values"]),
            refusal=values["refusal"],
            scores={name: -math.inf if score is None else score for name, score in values["scores"].items()},
            accuracy=values["accuracy"],
            curve=tuple(values["curve"]),
            stopped=values["stopped"],
        )


@dataclass(frozen=True, slots=True)
class Finalist:
    """A candidate that reached the last round. `rank_score` compares within the cohort only.

    `measured` is the cost of the compiled network where the workbench can measure; `verdict` is then about it.
    `accuracy` is on validation data; `accuracy_test` is for the report and chose nothing.
    `weights` is the file of trained weights, relative to the run directory.
    """

    trial: TrialRecord
    verdict: Verdict
    rank_score: float | None = None
    measured: Cost | None = None
    accuracy: float | None = None
    accuracy_test: float | None = None
    curve: tuple[float, ...] = ()
    weights: str = ""

    @property
    def architecture(self) -> Architecture:
        return self.trial.architecture

    @property
    def cost(self) -> Cost:
        """The measured cost, or the predicted one."""
        cost = self.measured or self.trial.cost
        assert cost is not None  # a refused architecture never becomes a finalist
        return cost

    def as_dict(self) -> dict[str, Any]:
        return {
            "trial": self.trial.as_dict(),
            "verdict": self.verdict.as_dict(),
            "rank_score": self.rank_score,
            "measured": self.measured.as_dict() if self.measured else None,
            "accuracy": self.accuracy,
            "accuracy_test": self.accuracy_test,
            "curve": list(self.curve),
            "weights": self.weights,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Finalist:
        return cls(
            trial=TrialRecord.from_dict(values["trial"]),
            verdict=verdict_from_dict(values["verdict"]),
            rank_score=values["rank_score"],
            measured=Cost(**values["measured"]) if values["measured"] else None,
            accuracy=values["accuracy"],
            accuracy_test=values["accuracy_test"],
            curve=tuple(values["curve"]),
            weights=values["weights"],
        )


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The outcome of a search. `winner` is None exactly when nothing met the budget; `misses` are then the nearest.

    `trained` is the validation accuracy of all trainings that ran to their end, by architecture digest.
    """

    budget: Budget
    seed: int
    trials: tuple[TrialRecord, ...]
    finalists: tuple[Finalist, ...] = ()
    winner: Finalist | None = None
    misses: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    trained: Mapping[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "budget": self.budget.as_dict(),
            "seed": self.seed,
            "trials": [trial.as_dict() for trial in self.trials],
            "finalists": [finalist.as_dict() for finalist in self.finalists],
            "winner": self.winner.as_dict() if self.winner else None,
            "misses": list(self.misses),
            "warnings": list(self.warnings),
            "trained": dict(self.trained),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SearchResult:
        return cls(
            budget=Budget(**values["budget"]),
            seed=values["seed"],
            trials=tuple(TrialRecord.from_dict(trial) for trial in values["trials"]),
            finalists=tuple(Finalist.from_dict(finalist) for finalist in values["finalists"]),
            winner=Finalist.from_dict(values["winner"]) if values["winner"] else None,
            misses=tuple(values["misses"]),
            warnings=tuple(values["warnings"]),
            trained=values.get("trained", {}),
        )


def verdict_from_dict(values: Mapping[str, Any]) -> Verdict:
    """The inverse of `Verdict.as_dict`."""
    return Verdict(tuple(BudgetItem(item["name"], item["limit"], item["value"]) for item in values["items"]))


def distinct(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The first record of each architecture, in the given order."""
    seen: dict[str, TrialRecord] = {}
    for record in records:
        seen.setdefault(record.architecture.digest(), record)
    return list(seen.values())


def nearest_misses(trials: Sequence[TrialRecord], finalists: Sequence[Finalist], count: int = 3) -> list[str]:
    """One line for each of the candidates that come closest to the budget, nearest first.

    Finalists that failed after training or measurement are nearer than anything that was never tried further.
    """
    failed = sorted((f for f in finalists if not f.verdict.passed), key=lambda f: (f.verdict.excess, f.trial.index))
    lines = [_miss(finalist.trial.index, finalist.verdict) for finalist in failed]
    costed = [trial for trial in distinct(trials) if trial.cost is not None and not trial.verdict.passed]
    costed.sort(key=lambda trial: (trial.verdict.excess, trial.index))
    lines += [_miss(trial.index, trial.verdict) for trial in costed]
    lines += [f"trial {trial.index}: refused, {trial.refusal}" for trial in trials if trial.cost is None]
    return lines[:count]


def _miss(index: int, verdict: Verdict) -> str:
    return f"trial {index}: {', '.join(str(item) for item in verdict.items if not item.passed)}"
