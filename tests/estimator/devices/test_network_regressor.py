from __future__ import annotations

import numpy as np
import pytest
from estimator.devices.network_samples import additive_times, branching_counts
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score

from lanefit.estimator.devices.network_model import fit_networks
from lanefit.estimator.devices.network_regressor import NetworkRegressor

GRAPHS = branching_counts(60)
TIMES = additive_times(GRAPHS)


def test_cross_validation_takes_the_estimator() -> None:
    scores = cross_val_score(NetworkRegressor(structure=False), GRAPHS, TIMES, cv=3)
    assert scores.min() > 0.99


def test_a_clone_has_the_parameters_and_not_the_fit() -> None:
    fitted = NetworkRegressor(structure=False, sample=40).fit(GRAPHS, TIMES)
    copy = clone(fitted)
    assert copy.get_params() == {"structure": False, "sample": 40, "random_state": 0}
    with pytest.raises(NotFittedError):
        copy.predict(GRAPHS)


def test_it_predicts_what_the_model_predicts() -> None:
    found = NetworkRegressor(structure=False).fit(GRAPHS, TIMES).predict(GRAPHS)
    model = fit_networks(GRAPHS, TIMES, structure=False).model
    np.testing.assert_array_equal(found, model.predict(GRAPHS).latency)
