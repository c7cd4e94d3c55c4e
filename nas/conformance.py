"""The exams that every proxy and every strategy passes; a plug-in's test suite subclasses them.

    class TestMine(ProxyConformance):
        proxy = MyProxy()

Needs pytest.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from ..common.errors import BudgetError
from .config import SearchConfig
from .proxies import Proxy, Subject
from .results import SearchResult
from .rundir import RunDirectory
from .scoring import Workbench
from .search import run_search
from .strategies import STRATEGIES


def small_network(width: int = 8, depth: int = 2, seed: int = 0) -> nn.Module:
    """A residual network with batch normalisation, ReLU and ReLU6 for 3×8×8 inputs; the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _Residual(width, depth).eval()


def minibatch(count: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


class _Residual(nn.Module):
    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU6())
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
            for _ in range(depth)
        )
        self.head = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x.mean((2, 3)))


class ProxyConformance:
    """What a zero-shot score must satisfy."""

    proxy: Proxy

    def subject(self, width: int = 8, depth: int = 2, seed: int = 0) -> Subject:
        module = small_network(width, depth, seed)
        macs = 64 * 9 * width * (3 + depth * width)
        return Subject(module, minibatch(), macs=macs, seed=seed)

    def test_the_score_of_a_sound_network_is_finite(self) -> None:
        assert math.isfinite(self.proxy.score(self.subject()))

    def test_equal_networks_have_equal_scores(self) -> None:
        assert self.proxy.score(self.subject(seed=3)) == self.proxy.score(self.subject(seed=3))

    def test_scoring_leaves_the_network_as_it_was(self) -> None:
        subject = self.subject()
        before = copy.deepcopy(subject.module.state_dict())
        self.proxy.score(subject)
        after = subject.module.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)
        assert not subject.module.training
        assert all(parameter.grad is None for parameter in subject.module.parameters())

    def test_scoring_leaves_the_global_random_state_alone(self) -> None:
        subject = self.subject()
        before = torch.get_rng_state()
        self.proxy.score(subject)
        assert torch.equal(before, torch.get_rng_state())

    def test_the_score_does_not_depend_on_what_was_scored_before(self) -> None:
        alone = self.proxy.score(self.subject())
        self.proxy.score(self.subject(width=12, depth=4))
        assert self.proxy.score(self.subject()) == alone

    def test_a_degenerate_network_gets_a_number_not_an_exception(self) -> None:
        for poison in (math.nan, 0.0):
            subject = self.subject()
            with torch.no_grad():
                for parameter in subject.module.parameters():
                    parameter.fill_(poison)
            assert isinstance(self.proxy.score(subject), float)


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

    def test_an_impossible_budget_shows_the_nearest_misses(self, tmp_path: Path) -> None:
        with pytest.raises(BudgetError, match="missed by") as caught:
            self.search(tmp_path / "run", budgets=self.hopeless, trials=8)
        assert caught.value.exit_code == 1
        stored = RunDirectory(tmp_path / "run")
        assert stored.read()["status"] == "over-budget"
        assert len(stored.result().misses) == 3
