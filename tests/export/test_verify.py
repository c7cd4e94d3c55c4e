"""Verification: what passes, what fails, and that nothing slips through."""

import json

import numpy as np
import pytest

from lanefit.common.errors import DeviceError, VerificationError
from lanefit.export.verify import TOLERANCES, Tolerance, VerifyReport, sqnr_db, top1_agreement, verify

BASE = np.random.default_rng(0).standard_normal((8, 5))


def _report(stage: str, after: np.ndarray, before: np.ndarray = BASE, step: float = 0.1) -> VerifyReport:
    return verify([("start", lambda: {"y": before}), (stage, lambda: {"y": after})], {"y": step})


@pytest.mark.parametrize("stage", list(TOLERANCES))
def test_equal_outputs_pass_every_stage(stage: str) -> None:
    report = _report(stage, BASE.copy())
    report.check()
    assert report.stage(stage).max_error == 0
    assert report.stage(stage).top1 == 1


@pytest.mark.parametrize("stage", list(TOLERANCES))
def test_not_a_number_fails_every_stage(stage: str) -> None:
    bad = BASE.copy()
    bad[3, 2] = np.nan
    report = _report(stage, bad)
    assert not report.passed
    assert report.stage(stage).worst_index == (3, 2)


def test_a_single_step_between_reference_and_device_fails_and_is_located() -> None:
    bad = BASE.copy()
    bad[6, 1] += 0.1
    with pytest.raises(VerificationError, match="device differs from start") as caught:
        _report("device", bad).check()
    assert "(6, 1)" in caught.value.where


def test_every_failed_stage_is_told_with_its_figures() -> None:
    runs = [("start", BASE), ("reference", BASE.copy()), ("device", BASE + 1), ("host", BASE + 9)]
    stages = [(name, lambda values=values: {"y": values}) for name, values in runs]
    with pytest.raises(
        VerificationError, match=r"device differs .* by 1 \(allowed 0, .*; host differs .* by 8"
    ) as caught:
        verify(stages, {"y": 0.1}).check()
    assert "reference differs" not in caught.value.what


def test_a_few_output_steps_between_runtime_and_reference_pass_and_more_do_not() -> None:
    assert _report("reference", BASE + 0.39).passed
    assert not _report("reference", BASE + 0.41 + BASE).passed


def test_quantisation_error_is_reported_and_not_judged() -> None:
    report = _report("int8", BASE + np.random.default_rng(1).standard_normal(BASE.shape))
    assert report.passed
    assert report.stage("int8").sqnr_db < 5


def test_every_loose_tolerance_has_a_reason_of_its_own() -> None:
    loose = [t for name, t in TOLERANCES.items() if name != "device"]
    assert len({t.reason for t in loose}) == len(loose)
    assert TOLERANCES["device"] == Tolerance()


def test_outputs_of_another_shape_are_an_error() -> None:
    with pytest.raises(DeviceError, match="gives shape"):
        _report("device", BASE[:, :4])


def test_the_report_is_json_even_with_infinite_ratios() -> None:
    values = json.loads(json.dumps(_report("device", BASE.copy()).as_dict(), allow_nan=False))
    assert values["passed"] is True
    assert values["stages"][0]["sqnr_db"] is None


def test_ratio_and_agreement_of_known_arrays() -> None:
    assert sqnr_db(np.array([10.0]), np.array([9.0])) == pytest.approx(20.0)
    assert top1_agreement(np.eye(4), np.eye(4)[[0, 1, 3, 2]]) == 0.5
    assert top1_agreement(np.zeros((2, 3, 4, 4)), np.zeros((2, 3, 4, 4))) is None
