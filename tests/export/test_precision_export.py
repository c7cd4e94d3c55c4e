"""Networks exported with other precisions than int8: verified packages, better answers, other costs."""

import functools

import numpy as np
import pytest
import torch
from export_examples import EveryOperator, seeded

from lanefit.common.errors import ConfigError
from lanefit.export.package import package_bytes, read_package
from lanefit.export.pipeline import ExportResult, export_model
from lanefit.export.precision import Precision
from lanefit.export.quantise import random_calibration
from lanefit.export.run import run_package
from lanefit.kernels.element_types import PRECISIONS
from lanefit.targets.spec import load_spec

SPEC = load_spec("ne-64")


@functools.cache
def exported(precision: Precision) -> ExportResult:
    calibration = random_calibration(EveryOperator.shape, 24)
    return export_model(seeded(EveryOperator), SPEC, calibration, precision=precision)


@pytest.mark.parametrize("name", list(PRECISIONS))
def test_every_precision_makes_a_verified_package_that_runs(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    result = exported(Precision(name))
    assert result.verify.passed
    assert result.verify.stage("device").max_error == 0
    path = tmp_path_factory.mktemp("package") / "a.lanefit"
    path.write_bytes(package_bytes(result.package))
    inputs = np.random.default_rng(1).standard_normal((4, *EveryOperator.shape[1:]), np.float32)
    found = run_package(read_package(path), {"input": inputs})
    exact = seeded(EveryOperator).eval()(torch.from_numpy(inputs)).detach().numpy()
    (answer,) = found.values()
    assert np.abs(answer - exact).max() < 0.2 * np.abs(exact).max()


def test_wider_maps_are_nearer_to_the_real_network() -> None:
    near = {name: exported(Precision(name)).verify.stage("device").baseline_sqnr_db for name in PRECISIONS}
    assert near["int8"] < near["int8x16"]
    assert near["int8"] < near["bf16"]


def test_one_operator_may_differ_and_the_package_says_so() -> None:
    names = [node.name for region in exported(Precision()).built.imported.regions for node in region.graph.nodes]
    mixed = exported(Precision("int8", ((names[0], "bf16"),)))
    assert mixed.package.manifest.provenance["precision"] == f"int8; {names[0]}=bf16"
    assert exported(Precision()).latency_us < mixed.latency_us < exported(Precision("bf16")).latency_us


def test_a_pattern_that_fits_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="'no_such\\*' fits no operator"):
        exported(Precision("int8", (("no_such*", "bf16"),)))
