"""The operator model on a published table: convolutions timed with TensorRT int8 on a V100."""

import numpy as np
import pytest
from reference_tables import latency_path

from lanefit.estimator.devices.conformal import coverage
from lanefit.estimator.devices.operator_model import OperatorRegressor
from lanefit.estimator.metrics import accuracy
from lanefit.estimator.tables.kernels import checked, read_kernels


@pytest.mark.slow
def test_two_thousand_kernels_predict_the_other_ones() -> None:
    kernels = checked(read_kernels(latency_path("v100_trt_conv_int8_ms.csv"), dtype="int8"))
    order = np.random.default_rng(0).permutation(len(kernels))
    train, test = ([kernels[i] for i in part] for part in (order[:2000], order[2000:8000]))
    model = OperatorRegressor().fit([k.operator for k in train], [k.latency_us for k in train])
    found, measured = model.predict_intervals([k.operator for k in test]), [k.latency_us for k in test]
    assert accuracy(found.latency, measured).acc10 > 0.75
    assert coverage(found.lower, found.upper, measured) == pytest.approx(0.9, abs=0.03)
