"""The samplers behind the names in `samplers`, each a function from a seed to an Optuna sampler."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

POPULATION = 20  # fixed: a population that grew with the number of trials would make a longer resume another search


class OrderedNsga2(NSGAIISampler):
    """NSGA-II whose parents stand in the order of their trials.

    Optuna caches the parents of a generation when its first trial asks, in elite order, and reads them back in trial
    order. A search that was killed during exactly that trial would draw other parents than an undisturbed one.
    """

    def select_parent(self, study: Study, generation: int) -> list[FrozenTrial]:
        return sorted(super().select_parent(study, generation), key=lambda trial: trial.number)


def tpe(seed: int) -> BaseSampler:
    """Tree-structured Parzen estimator, joint over the knobs that every trial has.

    Constant liar is for parallel workers; off, it saves a transaction per trial.
    """
    return TPESampler(seed=seed, constant_liar=False)


def nsga2(seed: int) -> BaseSampler:
    """Evolution by non-dominated sorting; made for two objectives and many trials."""
    return OrderedNsga2(seed=seed, population_size=POPULATION)


def random(seed: int) -> BaseSampler:
    """Uniform over the active knobs: the yardstick."""
    return RandomSampler(seed=seed)


def gp(seed: int) -> BaseSampler:
    """Gaussian process; best below a few hundred trials."""
    with warnings.catch_warnings():  # experimental in Optuna 5, which the user chose by name
        warnings.simplefilter("ignore", ExperimentalWarning)
        return GPSampler(seed=seed, deterministic_objective=True, warn_independent_sampling=False)


class Given(BaseSampler):
    """Suggests the parameters of one architecture that somebody else chose: its trial is then like any other."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._values[param_name]
