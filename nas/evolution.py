"""Sampler `evolution`: ageing (regularised) evolution over a family's knobs, as an Optuna sampler.

Real et al., "Regularized Evolution for Image Classifier Architecture Search", AAAI 2019 (arXiv:1802.01548),
algorithm 1: the best of a random few among the youngest members is mutated in one knob, and the oldest member dies.
Members are feasible trials only: a child outside of the budget is recorded, costs an estimate, and leaves no offspring.
The population follows from the finished trials, so that a resumed search goes on with the same one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

if TYPE_CHECKING:
    from optuna.study import Study

POPULATION, TOURNAMENT = 20, 5
MUTATION_ATTEMPTS = 50  # a child that was tried before is drawn again, as long as there is anything else


class AgeingEvolution(BaseSampler):
    """Draws uniformly until `POPULATION` feasible trials exist, then mutates. For one objective."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        self._child: dict[str, Any] = self._offspring(study, finished)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The child's value; a knob that only its mutation made active is drawn uniformly."""
        value = self._child.get(param_name)
        choices = _choices(param_distribution)
        return value if value in choices else choices[int(self._random.integers(len(choices)))]

    def _offspring(self, study: Study, finished: Sequence[FrozenTrial]) -> dict[str, Any]:
        members = _members(finished)
        if len(members) < POPULATION:
            return {}
        youngest = members[-POPULATION:]
        drawn = [youngest[i] for i in self._random.choice(POPULATION, size=TOURNAMENT, replace=False)]
        sign = 1 if study.direction is StudyDirection.MAXIMIZE else -1
        parent = max(drawn, key=lambda trial: (sign * _value(trial), trial.number))
        return self._mutated(parent, {_key(trial.params) for trial in finished})

    def _mutated(self, parent: FrozenTrial, known: set[tuple[tuple[str, Any], ...]]) -> dict[str, Any]:
        """The parent with one knob changed to another value, preferably one that no trial had."""
        knobs = sorted(name for name, found in parent.distributions.items() if len(_choices(found)) > 1)
        child = dict(parent.params)
        for _ in range(MUTATION_ATTEMPTS if knobs else 0):
            name = knobs[int(self._random.integers(len(knobs)))]
            others = [value for value in _choices(parent.distributions[name]) if value != parent.params[name]]
            child = {**parent.params, name: others[int(self._random.integers(len(others)))]}
            if _key(child) not in known:
                break
        return child


def evolution(seed: int) -> BaseSampler:
    """Ageing evolution: tournaments among the youngest, one knob changed at a time."""
    return AgeingEvolution(seed)


def _members(finished: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Feasible trials that ran to their end, each architecture once, oldest first."""
    members: dict[tuple[tuple[str, Any], ...], FrozenTrial] = {}
    for trial in finished:
        if trial.state is TrialState.COMPLETE and all(value <= 0 for value in trial.constraints.values()):
            members.setdefault(_key(trial.params), trial)
    return list(members.values())


def _value(trial: FrozenTrial) -> float:
    return float(trial.values[0])


def _key(params: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(params.items()))


def _choices(distribution: BaseDistribution) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, IntDistribution)  # `Space.suggest` draws nothing else
    return list(range(distribution.low, distribution.high + 1, distribution.step))
