import json

import numpy as np
import pytest
from kernel_device import convolution, device_us, random_operators
from sklearn.base import clone

from lanefit.common.errors import EstimatorError, UnsupportedError
from lanefit.estimator.devices.conformal import coverage
from lanefit.estimator.devices.machine import Machine
from lanefit.estimator.devices.operator_model import OperatorRegressor, operator_class
from lanefit.estimator.devices.shapes import COLUMN, shape_matrix
from lanefit.estimator.opgraph.operator import Kind, Operator, Window

TRAIN = random_operators(400, 0)


@pytest.fixture(scope="module")
def fitted() -> OperatorRegressor:
    return OperatorRegressor(machine=Machine(24), trees=20, process_rows=400).fit(TRAIN, device_us(TRAIN))


def test_kernels_never_seen_are_within_ten_per_cent(fitted: OperatorRegressor) -> None:
    operators = random_operators(500, 1)
    measured = device_us(operators, seed=1)
    found = fitted.predict_intervals(operators)
    assert np.mean(np.abs(found.latency / measured - 1) < 0.1) > 0.9
    assert coverage(found.lower, found.upper, measured) == pytest.approx(0.9, abs=0.05)


def test_parallel_units_are_found_from_measurements_alone() -> None:
    operators = random_operators(200, 2, depthwise=0)
    found = OperatorRegressor(trees=5, process_rows=100).fit(operators, device_us(operators, noise=0.0))
    assert found.machine_.units in (24, 8)  # a divisor explains whole waves as well


def test_an_operator_class_without_measurements_is_refused_and_never_free(fitted: OperatorRegressor) -> None:
    unknown = Operator(Kind.SOFTMAX, ((1, 64),), (1, 64), dtype="int8")
    with pytest.raises(UnsupportedError, match="no softmax int8 was measured") as caught:
        fitted.predict([TRAIN[0], unknown])
    assert "conv int8" in caught.value.hint


def test_another_element_type_is_another_class(fitted: OperatorRegressor) -> None:
    wide = Operator(Kind.CONV, ((1, 8, 8, 8),), (1, 8, 8, 8), Window.square(3, 1, 1), ((8, 8, 3, 3),), "float32")
    assert operator_class(wide) == "conv float32"
    with pytest.raises(UnsupportedError, match="conv float32"):
        fitted.predict([wide])


def test_shapes_beyond_the_measured_ones_are_flagged(fitted: OperatorRegressor) -> None:
    huge = convolution(64, 2048, 200, 2048)
    assert fitted.predict_intervals([TRAIN[0], huge]).extrapolated.tolist() == [False, True]


def test_predictions_are_positive_and_finite_wherever_they_are_asked_for(fitted: OperatorRegressor) -> None:
    extremes = [convolution(1, 1, 1, 1, 1), convolution(512, 4096, 512, 4096, 7)]
    found = fitted.predict_intervals(extremes)
    for values in (found.latency, found.lower, found.upper):
        assert np.isfinite(values).all()
        assert (values > 0).all()
    assert fitted.predict([]).shape == (0,)


def test_a_restored_model_predicts_the_same(fitted: OperatorRegressor) -> None:
    restored = OperatorRegressor().restore(json.loads(json.dumps(fitted.fitted_state())))
    here, there = fitted.predict_intervals(TRAIN[:40]), restored.predict_intervals(TRAIN[:40])
    assert np.allclose(here.latency, there.latency, rtol=1e-12)
    assert np.allclose(here.upper, there.upper, rtol=1e-12)
    assert (here.extrapolated == there.extrapolated).all()


def test_fitting_twice_gives_the_same_model(fitted: OperatorRegressor) -> None:
    again, there = (clone(fitted).fit(TRAIN[:100], device_us(TRAIN[:100])) for _ in range(2))
    assert (again.predict(TRAIN) == there.predict(TRAIN)).all()


@pytest.mark.parametrize("latencies", [[1.0], [1.0, -1.0], [1.0, float("nan")], [0.0, 1.0]])
def test_latencies_that_are_not_positive_are_refused(latencies: list[float]) -> None:
    with pytest.raises(EstimatorError, match="positive latency"):
        OperatorRegressor().fit(TRAIN[:2], latencies)


def test_rows_of_shapes_hold_what_a_kernel_has_to_do() -> None:
    operator = Operator(
        Kind.CONV, ((2, 8, 10, 10), (2, 16, 5, 5)), (2, 16, 5, 5), Window.square(3, 2, 1), ((16, 8, 3, 3),), "int8",
        (Kind.ADD, Kind.RELU),
    )  # fmt: skip
    row = dict(zip(COLUMN, shape_matrix([operator])[0].tolist(), strict=True))
    assert (row["batch"], row["positions"], row["channels_in"], row["channels_out"]) == (2, 25, 8, 16)
    assert (row["taps"], row["subsampling"], row["depth"], row["epilogue"]) == (9, 4, 72, 2)
    assert (row["input_bytes"], row["extra_bytes"], row["output_bytes"]) == (1600, 800, 800)


def test_a_constant_has_no_latency() -> None:
    with pytest.raises(UnsupportedError, match="not executed"):
        shape_matrix([Operator(Kind.CONSTANT, (), (3,))])
