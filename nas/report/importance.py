"""Which knobs matter: Optuna's evaluators of importance, on the trials of a search, wherever those are stored."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.importance import (
    BaseImportanceEvaluator,
    FanovaImportanceEvaluator,
    MeanDecreaseImpurityImportanceEvaluator,
    PedAnovaImportanceEvaluator,
    get_param_importances,
)
from optuna.trial import create_trial

from ...models.architecture import KnobValue
from ..results import TrialRecord
from .thinning import spread

FEWEST_TRIALS = 10  # with fewer, forests of trees learn nothing
_MOST_TRIALS = 600  # forests on more take minutes and say the same
_SEED = 0  # of the evaluators' forests: equal trials give an equal report
_INACTIVE = "(not used)"

Value = Callable[[TrialRecord], float]
_EVALUATORS: Mapping[str, Callable[[], BaseImportanceEvaluator]] = {
    "fANOVA": lambda: FanovaImportanceEvaluator(seed=_SEED),
    "mean decrease of impurity": lambda: MeanDecreaseImpurityImportanceEvaluator(seed=_SEED),
    "PED-ANOVA": PedAnovaImportanceEvaluator,
}


@dataclass(frozen=True, slots=True)
class Importance:
    """Shares of the variation of `quantity` that knobs explain, for each evaluator; knobs in falling order.

    `trials` is how many were looked at.
    """

    quantity: str
    knobs: tuple[str, ...]
    shares: Mapping[str, tuple[float, ...]]
    trials: int


def importance(trials: Sequence[TrialRecord], quantity: str, value: Value) -> Importance | None:
    """None when there are fewer than 10 distinct trials, or nothing varies.

    Source: fANOVA, Hutter et al., ICML 2014; PED-ANOVA, Watanabe et al., IJCAI 2023, with the best tenth of the trials.
    """
    chosen = [trials[i] for i in spread(len(trials), _MOST_TRIALS)]
    knobs = _varied(chosen)
    if len(chosen) < FEWEST_TRIALS or not knobs or len({value(trial) for trial in chosen}) < 2:
        return None
    study = _study(chosen, knobs, value)
    found = {name: _shares(study, make(), list(knobs)) for name, make in _EVALUATORS.items()}
    order = sorted(knobs, key=lambda knob: -sum(shares.get(knob, 0.0) for shares in found.values()))
    shares = {name: tuple(values.get(knob, 0.0) for knob in order) for name, values in found.items()}
    return Importance(quantity, tuple(order), shares, len(chosen))


def _varied(trials: Sequence[TrialRecord]) -> dict[str, tuple[KnobValue, ...]]:
    """The values of every knob that has several; "(not used)" where an architecture does without it."""
    tables = [trial.architecture.values for trial in trials]
    names = sorted({name for table in tables for name in table})
    values = {name: {table.get(name, _INACTIVE) for table in tables} for name in names}
    return {name: tuple(sorted(found, key=_order)) for name, found in values.items() if len(found) > 1}


def _order(value: KnobValue) -> tuple[bool, float, str]:
    return isinstance(value, str), 0.0 if isinstance(value, str) else float(value), str(value)


def _study(trials: Sequence[TrialRecord], knobs: Mapping[str, tuple[KnobValue, ...]], value: Value) -> optuna.Study:
    """In memory, with every knob in every trial: the evaluators leave out what is only sometimes there."""
    kinds = {name: CategoricalDistribution(values) for name, values in knobs.items()}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize")
    for trial in trials:
        table = trial.architecture.values
        params = {name: table.get(name, _INACTIVE) for name in knobs}
        study.add_trial(create_trial(value=value(trial), params=params, distributions=dict(kinds)))
    return study


def _shares(study: optuna.Study, evaluator: BaseImportanceEvaluator, knobs: list[str]) -> dict[str, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return get_param_importances(study, evaluator=evaluator, params=knobs)
