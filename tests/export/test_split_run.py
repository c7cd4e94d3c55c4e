"""Running a network in parts gives what running it whole gives."""

import numpy as np
import pytest
from export_examples import EveryOperator, Mixed, int8_model

from lanefit.common.errors import InputError, ToolchainError
from lanefit.export.importer import import_model
from lanefit.export.onnx_model import GraphIndex
from lanefit.export.split_run import SplitModel, run_samples, session


def test_without_regions_the_split_is_onnx_runtime_itself() -> None:
    names = {p.node: "test" for p in import_model(int8_model(EveryOperator)).placements}
    imported = import_model(int8_model(EveryOperator), demoted=names)
    assert imported.regions == ()
    x = np.random.default_rng(0).standard_normal((3, *EveryOperator.shape[1:]), np.float32)
    split = SplitModel(imported.host, GraphIndex(imported.model).types)
    got = split(lambda *_: {}, {"input": x})["output"]
    np.testing.assert_array_equal(got, run_samples(session(imported.model, exact=True), {"input": x})["output"])


def test_no_samples_are_refused() -> None:
    with pytest.raises(InputError, match="at least one"):
        run_samples(session(int8_model(Mixed)), {"input": np.zeros((0, *Mixed.shape[1:]), np.float32)})


def test_a_model_that_onnx_runtime_refuses_is_a_toolchain_error() -> None:
    with pytest.raises(ToolchainError, match="ONNX Runtime refuses"):
        session(import_model(int8_model(Mixed)).host)
