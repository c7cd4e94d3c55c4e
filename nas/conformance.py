"""The exam that every strategy passes; a plug-in's test suite subclasses it. For proxies see `proxies.conformance`.

Needs pytest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from ..common.errors import BudgetError, Interrupted
from ..models.architecture import Architecture
from .config import SearchConfig
from .oneshot.pool import FeasiblePool
from .results import SearchResult
from .rundir import RunDirectory
from .scoring import Cost, Estimate, OnEpoch, Subnets, Training, WithSupernet, Workbench
from .search import run_search
from .space import Space
from .strategies import STRATEGIES


class Watched:
    """A workbench that notes what is trained, and is interrupted instead of training more than `most`."""

    def __init__(self, bench: Workbench, most: int | None = None) -> None:
        self._bench, self._most = bench, most
        self.trained: list[Architecture] = []

    @property
    def space(self) -> Space:
        return self._bench.space

    def estimate(self, architecture: Architecture) -> Estimate:
        return self._bench.estimate(architecture)

    def score(self, architecture: Architecture, seed: int) -> dict[str, float]:
        return self._bench.score(architecture, seed)

    def train(
        self,
        architecture: Architecture,
        seed: int,
        on_epoch: OnEpoch,
        *,
        start: Mapping[str, NDArray[np.generic]] | None = None,
    ) -> Training:
        if len(self.trained) == self._most:
            raise KeyboardInterrupt
        self.trained.append(architecture)
        return self._bench.train(architecture, seed, on_epoch, start=start)

    def measure(self, architecture: Architecture) -> Estimate | None:
        return self._bench.measure(architecture)


class WatchedSupernet(Watched):
    """The same of a workbench that has a supernet."""

    def supernet_epochs(self, pool: FeasiblePool, seed: int, seconds: float) -> int:
        return self._sharing.supernet_epochs(pool, seed, seconds)

    def supernet(
        self, pool: FeasiblePool, seed: int, *, epochs: int, seconds: float | None, state: Path,
        on_epoch: Callable[[int], None],
    ) -> Subnets:  # fmt: skip
        return self._sharing.supernet(pool, seed, epochs=epochs, seconds=seconds, state=state, on_epoch=on_epoch)

    @property
    def _sharing(self) -> WithSupernet:
        assert isinstance(self._bench, WithSupernet)
        return self._bench


def watched(bench: Workbench, most: int | None = None) -> Watched:
    """`bench`, watched; it has a supernet exactly if `bench` has."""
    return (WatchedSupernet if isinstance(bench, WithSupernet) else Watched)(bench, most)


class StrategyConformance:
    """What a strategy must satisfy. `make_bench` gives a fresh workbench, `config` a search that has a feasible winner,
    `hopeless` budgets that nothing meets."""

    strategy: ClassVar[str]
    config: ClassVar[SearchConfig]
    hopeless: ClassVar[dict[str, str]]

    @classmethod
    def make_bench(cls) -> Workbench:
        raise AssertionError("a conformance test gives its own workbench")

    @classmethod
    def search(cls, directory: Path, **changes: object) -> SearchResult:
        """One search by the strategy under test."""
        return run_search(cls.config.replaced(strategy=cls.strategy, **changes), directory, cls.make_bench())

    @pytest.fixture(scope="class")
    @classmethod
    def done(cls, tmp_path_factory: pytest.TempPathFactory) -> tuple[SearchResult, Path]:
        """One finished search and its directory, shared by the tests that only look at it."""
        directory = tmp_path_factory.mktemp("strategy") / "run"
        return cls.search(directory), directory

    def test_the_winner_is_inside_the_budget_and_among_the_finalists(self, done: tuple[SearchResult, Path]) -> None:
        result, _ = done
        assert result.winner is not None
        assert result.winner.verdict.passed
        assert result.winner in result.finalists
        assert sum(finalist.verdict.passed for finalist in result.finalists) <= self.config.finalists

    def test_every_trial_is_recorded_once_in_order(self, done: tuple[SearchResult, Path]) -> None:
        assert [trial.index for trial in done[0].trials] == list(range(self.config.trials))

    def test_candidates_outside_of_the_budget_cost_nothing_but_an_estimate(
        self, done: tuple[SearchResult, Path]
    ) -> None:
        outside = [trial for trial in done[0].trials if not trial.feasible]
        assert all(not trial.scores and trial.accuracy is None for trial in outside)

    def test_a_result_reads_back_from_its_run_directory(self, done: tuple[SearchResult, Path]) -> None:
        result, directory = done
        assert RunDirectory(directory).result() == result

    def test_finalists_are_trained_exactly_when_the_strategy_says_so(self, done: tuple[SearchResult, Path]) -> None:
        result, directory = done
        for finalist in result.finalists:
            trained = finalist.accuracy is not None and (directory / finalist.weights).is_file()
            assert trained == (STRATEGIES.get(self.strategy).trains and finalist.verdict.passed)

    def test_equal_seeds_give_equal_results(self, done: tuple[SearchResult, Path], tmp_path: Path) -> None:
        assert self.search(tmp_path / "again") == done[0]

    def test_exactly_the_trainings_that_were_asked_for_are_spent_inside_the_budget(self, tmp_path: Path) -> None:
        self._needs_training()
        for trainings in (1, 6, 10):
            bench = watched(self.make_bench())
            config = self.config.replaced(strategy=self.strategy, trainings=trainings, trials=3 * self.config.trials)
            result = run_search(config, tmp_path / str(trainings), bench)
            digests = {architecture.digest() for architecture in bench.trained}
            assert len(bench.trained) == len(digests) == trainings
            costs = [Cost.of(bench.estimate(architecture)) for architecture in bench.trained]
            assert all(cost.check(result.budget.hardware()).passed for cost in costs)

    def test_a_search_that_is_interrupted_between_trainings_resumes_as_if_undisturbed(self, tmp_path: Path) -> None:
        self._needs_training()
        config = self.config.replaced(strategy=self.strategy, trainings=10, trials=3 * self.config.trials)
        whole = run_search(config, tmp_path / "whole", self.make_bench())
        for most in (3, 9):
            directory = tmp_path / str(most)
            with pytest.raises(Interrupted):
                run_search(config, directory, watched(self.make_bench(), most))
            assert run_search(None, directory, self.make_bench(), resume=True) == whole

    def _needs_training(self) -> None:
        if not STRATEGIES.get(self.strategy).trains:
            pytest.skip(f"{self.strategy} trains nothing")

    def test_an_impossible_budget_shows_the_nearest_misses(self, tmp_path: Path) -> None:
        with pytest.raises(BudgetError, match="missed by") as caught:
            self.search(tmp_path / "run", budgets=self.hopeless, trials=8)
        assert caught.value.exit_code == 1
        stored = RunDirectory(tmp_path / "run")
        assert stored.read()["status"] == "over-budget"
        assert len(stored.result().misses) == 3
