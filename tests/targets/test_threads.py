"""The emulator does not depend on the package that limits BLAS threads."""

import sys
from collections.abc import Iterator

import numpy as np
import pytest
from engine_programs import TILE, TILES, double_buffered

from lanefit.targets.emulator import Emulator
from lanefit.targets.threads import blas_controller, one_blas_thread


@pytest.fixture(autouse=True)
def _fresh_controller() -> Iterator[None]:
    """Each test finds the BLAS libraries that are loaded by then, and leaves nothing that it changed."""
    blas_controller.cache_clear()
    yield
    blas_controller.cache_clear()


def test_programs_run_without_threadpoolctl(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.zeros((TILES, TILE), np.int8)
    expected = Emulator(double_buffered()).run({"x": x})["y"]
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    np.testing.assert_array_equal(Emulator(double_buffered()).run({"x": x})["y"], expected)


def test_the_limit_ends_with_its_context() -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl")

    def threads() -> list[int]:
        return [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]

    before = threads()
    with one_blas_thread():
        assert set(threads()) <= {1}
    assert threads() == before
