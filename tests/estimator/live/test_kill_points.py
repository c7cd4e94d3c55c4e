"""A calibration killed anywhere, any number of times, ends like one that nobody disturbed."""

from __future__ import annotations

import os
import signal
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from estimator.live.synthetic import SyntheticRunner
from estimator.live.test_additive import CACHES, random_graph

from lanefit.estimator.live.additive import AdditiveModel
from lanefit.estimator.live.calibrate import Budget, calibrate
from lanefit.estimator.live.files import CalibratedDevice, save_device
from lanefit.estimator.live.protocol import Protocol
from lanefit.estimator.live.store import LiveStore

BUDGET = Budget(measurements=24, rounds=3, candidates=80, batch=4)
PROTOCOL = Protocol(visit_us=0, runs_per_visit=1, min_visits=2, max_visits=2)
GRAPHS = [random_graph(np.random.default_rng(seed), 8) for seed in range(4)]


def run(path: Path, runner: SyntheticRunner | None = None) -> AdditiveModel:
    with LiveStore(path) as store:
        return calibrate(
            runner or SyntheticRunner(), GRAPHS, store, caches=CACHES, budget=BUDGET, protocol=PROTOCOL, seed=3
        )


def written(model: AdditiveModel, path: Path) -> bytes:
    save_device(path, CalibratedDevice(model, "synthetic", "synthetic 1", CACHES))
    return path.read_bytes()


def killed(path: Path, after: int) -> bool:
    """Whether a calibration in another process was killed when it prepared its piece number `after`."""
    child = os.fork()
    if not child:
        try:
            run(path, SyntheticRunner(fail_after=after, failure=lambda: os.kill(os.getpid(), signal.SIGKILL)))
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_random_points_it_ends_with_the_same_bytes(tmp_path: Path, seed: int) -> None:
    undisturbed = written(run(tmp_path / "whole.sqlite"), tmp_path / "whole.json")
    generator, kills = np.random.default_rng(seed), 0
    for _ in count():
        if not killed(tmp_path / "killed.sqlite", int(generator.integers(4, 12))):
            break
        kills += 1
    assert kills >= 2
    assert written(run(tmp_path / "killed.sqlite"), tmp_path / "killed.json") == undisturbed
