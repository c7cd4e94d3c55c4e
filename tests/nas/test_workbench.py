"""The real workbench on the smallest networks of the real family: two epochs, a few images."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from estimator.sample_graphs import small_estimator

from lanefit.common.errors import ConfigError, UnsupportedError
from lanefit.export.graph import Graph
from lanefit.models.architecture import Architecture
from lanefit.models.layers import reaches_output
from lanefit.models.registry import families, find_task
from lanefit.nas.config import SearchConfig
from lanefit.nas.measure import engine_measure
from lanefit.nas.proxies import DEFAULT_PROXIES
from lanefit.nas.scoring import Cost
from lanefit.nas.search import run_search
from lanefit.nas.space import Space
from lanefit.nas.weights import load_weights
from lanefit.nas.workbench import ModelWorkbench, train_settings, workbench
from lanefit.targets.spec import load_spec

TINY = {
    "resolution": [16], "stem_channels": [16], "stages": [2], "stage1_depth": [1], "stage2_depth": [1],
    "stage1_stride": [2], "stage2_stride": [2], "stage1_expansion": [1, 2], "head_channels": [0],
}  # fmt: skip
CONFIG = SearchConfig().replaced(trials=3, finalists=1, seed=1, train={"epochs": 2, "limit": 128}, knobs=TINY)
NE_256 = replace(load_spec("ne-256"), micro_blocks=())  # whole blocks of lanes: steps that curation can find


class MacsEstimator:
    """Latency in proportion to work: stands in for a fitted estimator."""

    def estimate(self, graph: Graph) -> Cost:
        return Cost(graph.macs / 1e3, graph.macs / 0.9e3, 1000, 1000, 1000, graph.macs)


@pytest.fixture(scope="module")
def bench() -> ModelWorkbench:
    found, report = workbench(CONFIG, MacsEstimator(), NE_256, measure=engine_measure(NE_256))
    assert report is not None
    return found


def test_curation_leaves_knobs_that_the_configuration_names(bench: ModelWorkbench) -> None:
    values = {knob.name: knob.values for knob in bench.space.knobs}
    assert values["stage1_expansion"] == (1, 2)
    assert values["stage2_channels"] == (16, 32, 48)
    free, report = workbench(CONFIG.replaced(curate=False), MacsEstimator(), NE_256)
    assert report is None
    assert 20 in {knob.name: knob.values for knob in free.space.knobs}["stage2_channels"]


def test_screening_by_another_estimator_is_its_estimate(bench: ModelWorkbench) -> None:
    drawn = [bench.space.sample(seed) for seed in range(3)]
    screened, exact = bench.screen_many(drawn), [bench.estimate(architecture) for architecture in drawn]
    assert bench.screen.exact
    assert [(s.latency_us, s.sram_bytes) for s in screened if s] == [(e.latency_us, e.sram_bytes) for e in exact]


def test_an_engine_screens_by_blocks_near_its_estimate() -> None:
    found, _ = workbench(CONFIG.replaced(curate=False, knobs={}), small_estimator(), NE_256)
    drawn = [found.space.sample(seed) for seed in range(12)]
    screened, exact = found.screen_many(drawn), [found.estimate(architecture) for architecture in drawn]
    assert not found.screen.exact
    assert [s.macs for s in screened if s] == [e.macs for e in exact]
    ratios = [s.latency_us / e.latency_us for s, e in zip(screened, exact, strict=True) if s and s.latency_us]
    assert len(ratios) == 12
    assert sum(0.85 < ratio < 1.15 for ratio in ratios) >= 9


def test_what_cannot_run_is_screened_as_none() -> None:
    space = Space.of(families.get("nas-bench-201"))
    found = ModelWorkbench(space, find_task("digits"), MacsEstimator())
    middle = space.family.middle()
    nothing = middle.with_values(**dict.fromkeys((knob.name for knob in space.knobs), "none"))
    pooled = middle.with_values(**dict.fromkeys((knob.name for knob in space.knobs), "avg_pool_3x3"))
    conv = middle.with_values(**dict.fromkeys((knob.name for knob in space.knobs), "nor_conv_1x1"))
    assert [item is None for item in found.screen_many([nothing, pooled, conv])] == [True, True, False]


def test_costs_and_scores_repeat(bench: ModelWorkbench) -> None:
    architecture = bench.space.sample(0)
    assert bench.estimate(architecture) == bench.estimate(architecture)
    scores = bench.score(architecture, seed=5)
    assert scores == bench.score(architecture, seed=5) != bench.score(architecture, seed=6)
    assert set(scores) == set(DEFAULT_PROXIES)
    assert all(math.isfinite(score) for score in scores.values())


def test_a_network_that_sees_nothing_of_its_input_is_refused() -> None:
    config = SearchConfig().replaced(family="nas-bench-201", task="digits", curate=False)
    found, _ = workbench(config, MacsEstimator(), NE_256)
    silent = Architecture.of("nas-bench-201", {knob.name: "none" for knob in found.space.knobs})
    with pytest.raises(UnsupportedError, match="sees nothing of its input"):
        found.estimate(silent)
    assert found.estimate(silent.with_values(node3_from0="nor_conv_1x1")).macs > 0


@pytest.mark.parametrize("family", ["nas-bench-201", "mnasnet"])
def test_every_family_has_finite_scores_with_the_default_proxies(family: str) -> None:
    config = SearchConfig().replaced(family=family, task="digits", curate=False)
    found, _ = workbench(config, MacsEstimator(), NE_256)
    architecture = next(a for a in map(found.space.sample, range(50)) if _small_and_gated(found, a))
    scores = found.score(architecture, seed=5)
    assert all(math.isfinite(score) for score in scores.values()), scores


def _small_and_gated(bench: ModelWorkbench, architecture: Architecture) -> bool:
    kinds = {str(layer.kind) for layer in bench.layers(architecture)}
    return bool(kinds & {"mul", "zero"}) and reaches_output(bench.layers(architecture))


def test_a_hybrid_search_trains_a_winner_whose_weights_load(bench: ModelWorkbench, tmp_path: Path) -> None:
    result = run_search(CONFIG, tmp_path / "run", bench)
    assert result.winner is not None
    assert result.winner.measured is not None
    assert result.winner.accuracy is not None
    assert result.winner.accuracy_test is not None
    module = bench.build(result.winner.architecture, seed=99)
    load_weights(module, tmp_path / "run" / result.winner.weights)


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"epoch": 3}, "unknown training setting 'epoch'"),
        ({"seed": 3}, "unknown training setting 'seed'"),
        ({"epochs": "three"}, "epochs must be int, got 'three'"),
        ({"augment": 1}, "augment must be bool, got 1"),
        ({"device": 1}, "device must be str, got 1"),
        ({"learning_rate": -1.0}, "learning_rate cannot be -1.0"),
    ],
)
def test_a_bad_training_setting_is_refused(values: dict[str, object], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        train_settings(values)
    assert train_settings({"learning_rate": 1, "patience": 2}).patience == 2


def test_unknown_names_of_family_and_task_are_refused() -> None:
    for change in ({"family": "ibn-clasifier"}, {"task": "digit"}):
        with pytest.raises(KeyError, match="did you mean"):
            workbench(CONFIG.replaced(**change), MacsEstimator(), NE_256)
    assert families.get(CONFIG.family)
    assert find_task(CONFIG.task)


def test_importing_the_package_and_its_values_imports_nothing_heavy() -> None:
    code = (
        "import sys, lanefit.nas, lanefit.nas.config, lanefit.nas.results, lanefit.nas.rundir, lanefit.nas.figures, "
        "lanefit.nas.strategies, lanefit.nas.samplers, lanefit.nas.proxies\n"
        "heavy = {'torch', 'optuna', 'sklearn', 'matplotlib', 'tvm', 'onnx'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
