"""Optuna pruners by name, made repeatable: a search that was killed and resumed stops the same trainings.

Optuna's pruners count and number all trials, also those that a kill left failed. Here they see finished trials
and the running one only, under the numbers of an undisturbed study.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Container
from typing import TYPE_CHECKING, TypeAlias, cast

from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.trial import FrozenTrial, TrialState

from ..common.registry import Registry

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study import Study, StudyDirection

STARTUP_TRIALS, WARMUP_EPOCHS = 4, 1  # before there is anything to compare with
REDUCTION = 3  # of the trainings that reach a rung, one in so many goes on (Li et al. 2018, section 3.6: 3 or 4)

Keep: TypeAlias = Callable[[FrozenTrial], bool]


class _View:
    """The part of a study that pruners read, without failed trials."""

    def __init__(self, study: Study, keep: Keep | None = None) -> None:
        self._study, self._keep = study, keep
        self.study_name: str = study.study_name
        self.direction: StudyDirection = study.direction
        self._storage: BaseStorage = study._storage

    def get_trials(self, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        found = [trial for trial in self._study.get_trials(deepcopy=deepcopy) if trial.state is not TrialState.FAIL]
        renumbered = (_numbered(trial, index) for index, trial in enumerate(found))
        wanted = [trial for trial in renumbered if states is None or trial.state in states]
        return [trial for trial in wanted if self._keep is None or self._keep(trial)]

    def restricted(self, keep: Keep) -> _View:
        return _View(self._study, keep)

    def own(self, trial: FrozenTrial) -> FrozenTrial:
        """`trial` under its number in this view."""
        earlier = self._study.get_trials(deepcopy=False)[: trial.number]
        return _numbered(trial, sum(other.state is not TrialState.FAIL for other in earlier))


class _Hyperband(HyperbandPruner):
    def _create_bracket_study(self, study: Study, bracket_id: int) -> Study:
        view = cast(_View, study)
        return cast("Study", view.restricted(lambda trial: self._get_bracket_id(study, trial) == bracket_id))


class Steady(BasePruner):
    """An Optuna pruner made anew for every decision, so that nothing it remembers is lost with the process."""

    def __init__(self, make: Callable[[], BasePruner]) -> None:
        self._make = make

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        view = _View(study)
        return self._make().prune(cast("Study", view), view.own(trial))


def _median() -> BasePruner:
    """Stops what is below the median of earlier trainings at the same epoch."""
    return MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=WARMUP_EPOCHS)


def _halving() -> BasePruner:
    """Asynchronous successive halving: at epochs 1, 3, 9, ... the best third goes on."""
    return SuccessiveHalvingPruner(min_resource=1, reduction_factor=REDUCTION)


def _hyperband() -> BasePruner:
    """Successive halving that begins later for some trainings, in case early epochs mislead.

    The longest training so far tells how long a full one is; nothing is stopped before one has finished.
    """
    return _Hyperband(min_resource=1, reduction_factor=REDUCTION)


PRUNERS: Registry[Callable[[], BasePruner]] = Registry("pruner")
for _name, _factory in {"median": _median, "halving": _halving, "hyperband": _hyperband, "none": NopPruner}.items():
    PRUNERS.add(_name, _factory)


def make_pruner(name: str) -> BasePruner:
    """The pruner called `name`; `UnknownNameError` lists the known ones."""
    return Steady(PRUNERS.get(name))


def _numbered(trial: FrozenTrial, number: int) -> FrozenTrial:
    changed = copy.copy(trial)
    changed.number = number
    return changed
