"""What a search begins with: architectures that a user enqueues, and the best of an earlier search.

Both are fitted to the search's own space: an earlier search had another target, whose curation kept other values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..common.errors import ConfigError, InputError
from ..models.architecture import Architecture, Knob, KnobValue, read_architecture
from .config import SearchConfig
from .results import SearchResult, TrialRecord, distinct
from .rundir import RunDirectory
from .space import Space

Label = tuple[Architecture, float]


@dataclass(frozen=True, slots=True)
class Beginning:
    """The `architectures` of the first trials, `remarks` for the user, and what an earlier search trained.

    `labels` are architectures of the earlier search as this space has them, with the accuracy that they reached there:
    on other data, so that only their order means anything here.
    """

    architectures: tuple[Architecture, ...] = ()
    labels: tuple[Label, ...] = ()
    remarks: tuple[str, ...] = ()

    def at(self, index: int) -> Architecture | None:
        """The architecture of trial `index`, None where the search chooses."""
        return self.architectures[index] if index < len(self.architectures) else None

    def as_dict(self) -> dict[str, Any]:
        return {
            "architectures": [found.as_dict() for found in self.architectures],
            "labels": [[found.as_dict(), accuracy] for found, accuracy in self.labels],
            "remarks": list(self.remarks),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Beginning:
        return cls(
            tuple(Architecture.from_dict(found) for found in values["architectures"]),
            tuple((Architecture.from_dict(found), accuracy) for found, accuracy in values["labels"]),
            tuple(values["remarks"]),
        )


def read_beginning(config: SearchConfig, space: Space) -> Beginning:
    """What the files and the earlier run that `config` names say in `space`.

    Raises:
        ConfigError: another family, an unknown knob, a malformed file, or more architectures than trials.
        InputError: a file that cannot be read, or an earlier search that found nothing to begin with.
    """
    asked = [_checked(read_architecture(Path(name)), space, name) for name in config.enqueue]
    moves = _Moves(space)
    first = _unique(moves.into(found) for found in asked)
    if len(first) > config.trials:
        problem = f"{len(first)} architectures are enqueued for {config.trials} trials"
        raise ConfigError(problem, where="enqueue", hint="ask for more --trials")
    remarks = moves.remarks("enqueued architectures")
    if not config.warm_start:
        return Beginning(first, (), remarks)
    return _warm(config, space, first, remarks)


def _warm(config: SearchConfig, space: Space, first: tuple[Architecture, ...], remarks: tuple[str, ...]) -> Beginning:
    earlier, moves = _earlier(Path(config.warm_start), space), _Moves(space)
    ranking = [trial.architecture for trial in best_first(earlier)][: config.warm_top]
    best = _unique([*first, *(moves.into(found) for found in ranking)])[: config.trials]
    known = {trial.architecture.digest(): trial.architecture for trial in earlier.trials}
    labels: dict[str, Label] = {}
    for digest, accuracy in earlier.trained.items():
        moved, _ = fitted(space, known[digest])
        labels.setdefault(moved.digest(), (moved, accuracy))
    count = len(best) - len(first)
    said = f"warm start from {config.warm_start}: {count} trials, {len(labels)} labels for the accuracy predictor"
    return Beginning(best, tuple(labels.values()), (*remarks, said, *moves.remarks("of them")))


def best_first(result: SearchResult) -> list[TrialRecord]:
    """Distinct trials inside the earlier budget: trained ones by accuracy, then the others by what the search
    maximised."""

    def key(trial: TrialRecord) -> tuple[bool, float, int]:
        accuracy = result.trained.get(trial.architecture.digest())
        return accuracy is None, -(trial.values[0] if accuracy is None else accuracy), trial.index

    return sorted((trial for trial in distinct(result.trials) if trial.feasible), key=key)


def _earlier(directory: Path, space: Space) -> SearchResult:
    run = RunDirectory(directory)
    if not run.record.exists():
        hint = "give the directory of a finished search, such as runs/NAME"
        raise InputError("no earlier search here", where=str(directory), hint=hint)
    result = run.result()
    for trial in result.trials:
        _checked(trial.architecture, space, str(run.record))
    if not any(trial.feasible for trial in result.trials):
        raise InputError("the earlier search found nothing inside its budget", where=str(directory))
    return result


def _checked(architecture: Architecture, space: Space, where: str) -> Architecture:
    """`architecture`, once its family can build it."""
    family = space.family
    if architecture.family != family.name:
        problem = f"this is about family {architecture.family}, and the search about {family.name}"
        raise ConfigError(problem, where=where, hint=f"search with --family {architecture.family}")
    try:
        family.check(architecture)
    except ConfigError as error:
        raise ConfigError(error.what, where=f"{where}:{error.where}", hint=error.hint) from error
    return family.canonicalise(architecture)


class _Moves:
    """Fits architectures into a space and counts what that changed."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._count, self._moved, self._knobs = 0, 0, set[str]()

    def into(self, architecture: Architecture) -> Architecture:
        found, knobs = fitted(self._space, architecture)
        self._count += 1
        self._moved += bool(knobs)
        self._knobs.update(knobs)
        return found

    def remarks(self, what: str) -> tuple[str, ...]:
        if not self._moved:
            return ()
        names = ", ".join(sorted(self._knobs))
        return (
            f"{self._moved} of {self._count} {what} had values outside of the space, moved to the nearest: {names}",
        )


def fitted(space: Space, architecture: Architecture) -> tuple[Architecture, list[str]]:
    """The nearest architecture of `space`, knob by knob in its order, and the knobs that had to change for it."""
    before = architecture.values
    found = space.draw(lambda knob: _nearest(knob, before.get(knob.name)))
    after = found.values
    return found, sorted(name for name in {*before, *after} if before.get(name) != after.get(name))


def _nearest(knob: Knob, wanted: KnobValue | None) -> KnobValue:
    """The value itself, the number next to it (the lower one of two), else the first: a word has no neighbours, and a
    knob that became active has no value yet."""
    if wanted in knob.values:
        return knob.values[knob.values.index(wanted)]
    numbers = [value for value in knob.values if isinstance(value, int | float)]
    if isinstance(wanted, int | float) and numbers:
        return min(numbers, key=lambda value: (abs(value - wanted), value))
    return knob.values[0]


def _unique(architectures: Iterable[Architecture]) -> tuple[Architecture, ...]:
    return tuple({found.digest(): found for found in architectures}.values())


def check_beginning(config: SearchConfig, space: Space) -> None:
    """Raises what `read_beginning` would raise, before anything is fitted or curated."""
    if config.enqueue or config.warm_start:
        read_beginning(config, space)
