from __future__ import annotations

import os

import numpy as np
import pytest
from estimator.live.runner_conformance import RunnerConformance
from estimator.live.synthetic import chain
from export_examples import Mixed, int8_model

from lanefit.common.errors import InputError, UnsupportedError
from lanefit.estimator.live.executed import Value
from lanefit.estimator.live.ort_runner import OrtRunner
from lanefit.estimator.live.reference import reference_model
from lanefit.estimator.live.sessions import feeds

PINS = hasattr(os, "sched_getaffinity")
PROCESSORS = len(os.sched_getaffinity(0)) if PINS else 1


class TestOneThread(RunnerConformance):
    @pytest.fixture
    def runner(self) -> OrtRunner:
        return OrtRunner(1)


class TestProcessorTime(RunnerConformance):
    @pytest.fixture
    def runner(self) -> OrtRunner:
        return OrtRunner(1, clock="processor")


@pytest.mark.skipif(PROCESSORS < 2, reason="two processors that threads can be pinned to are needed")
class TestTwoThreads(RunnerConformance):
    @pytest.fixture
    def runner(self) -> OrtRunner:
        return OrtRunner(2)


@pytest.mark.skipif(not PINS, reason="threads cannot be pinned on this system")
def test_threads_stay_on_their_processors_while_measuring_only() -> None:
    runner, before = OrtRunner(1), os.sched_getaffinity(0)
    with runner.ready():
        assert os.sched_getaffinity(0) == set(runner.processors)
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize("threads", [0, 10_000])
def test_threads_that_do_not_exist_are_refused(threads: int) -> None:
    with pytest.raises(InputError, match="processors"):
        OrtRunner(threads)


def test_processor_time_of_several_threads_is_refused() -> None:
    with pytest.raises(InputError, match="processor time"):
        OrtRunner(2, clock="processor")


def test_int8_models_are_cut_and_run_like_float_ones() -> None:
    runner = OrtRunner(1)
    graph = runner.executed(int8_model(Mixed))
    assert any(value.dtype in ("int8", "uint8") for node in graph.nodes for value in node.operator.outputs)
    assert runner.prepare(graph.model).run() > 0


def test_networks_without_activations_between_are_one_reference_for_all_runtimes() -> None:
    graph = OrtRunner(1, level="basic").executed(reference_model())
    assert [node.operator.kind for node in graph.nodes] == ["Conv", "Conv"]


def test_inputs_are_the_same_every_time_and_indices_are_zero() -> None:
    values = {"x": Value((2, 3), "float32"), "i": Value((4,), "int64"), "q": Value((100,), "uint8")}
    first, second = feeds(values), feeds(values)
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])
        assert array.dtype == values[name].dtype
    assert not first["i"].any()
    with pytest.raises(UnsupportedError, match="string"):
        feeds({"s": Value((1,), "string")})


def test_the_chain_of_these_tests_is_executed_in_blocked_layout() -> None:
    kinds = {node.operator.kind for node in OrtRunner(1).executed(chain([(16, 16, 3, 8)])).nodes}
    assert any(kind.startswith("com.microsoft.nchwc.") for kind in kinds)
