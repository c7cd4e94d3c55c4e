"""What any network estimator must satisfy, whatever it learned from; a plug-in subclasses this with its fixtures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import pytest

from lanefit.common.errors import LanefitError
from lanefit.estimator.network import Estimate
from lanefit.export.graph import Graph


class Estimator(Protocol):
    def estimate(self, graph: Graph) -> Estimate: ...

    def estimate_many(self, graphs: Sequence[Graph]) -> list[Estimate]: ...

    def save(self, path: Path) -> None: ...


class EstimatorConformance:
    """Fixtures: `estimator`, `fresh` (makes an equal one without caches), `load`, `graphs` of the fitted family,
    `growing` (one family, ever more work) and `refused`: graphs that it cannot know, each with a word of the message.

    Growth is required up to `slack`: a learned residual may bend the latency of equal steps by so much.
    """

    slack = 0.03

    @pytest.fixture
    def estimator(self) -> Estimator:
        pytest.fail("the subclass must override this fixture: it gives its estimator")

    @pytest.fixture
    def fresh(self) -> Callable[[], Estimator]:
        pytest.fail("the subclass must override this fixture: it makes estimators")

    @pytest.fixture
    def load(self) -> Callable[[Path], Estimator]:
        pytest.fail("the subclass must override this fixture: it loads estimators")

    @pytest.fixture
    def graphs(self) -> list[Graph]:
        pytest.fail("the subclass must override this fixture: it gives its graphs")

    @pytest.fixture
    def growing(self) -> list[Graph]:
        pytest.fail("the subclass must override this fixture: it gives its graphs")

    @pytest.fixture
    def refused(self) -> list[tuple[Graph, str]]:
        pytest.fail("the subclass must override this fixture: it gives its graphs")

    def test_every_figure_is_positive_and_the_bound_is_above_the_latency(
        self, estimator: Estimator, graphs: list[Graph]
    ) -> None:
        for found in estimator.estimate_many(graphs):
            sizes = (found.sram_bytes, found.weight_bytes, found.dram_bytes, found.macs)
            assert min(sizes) > 0
            assert 0 < found.latency_us <= found.latency_upper_us
            assert all(0 <= part.latency_us <= part.latency_upper_us for part in found.parts)

    def test_latencies_of_the_parts_add_up(self, estimator: Estimator, graphs: list[Graph]) -> None:
        for found in estimator.estimate_many(graphs):
            assert sum(part.latency_us for part in found.parts) == pytest.approx(found.latency_us)

    def test_estimates_do_not_depend_on_batch_order_or_earlier_estimates(
        self, estimator: Estimator, fresh: Callable[[], Estimator], graphs: list[Graph]
    ) -> None:
        together = estimator.estimate_many(graphs)
        assert [estimator.estimate(graph) for graph in graphs] == together
        assert [fresh().estimate(graph) for graph in graphs] == together
        assert fresh().estimate_many(graphs[::-1])[::-1] == together

    def test_no_graphs_give_no_estimates(self, estimator: Estimator) -> None:
        assert estimator.estimate_many([]) == []

    def test_latency_grows_with_the_work_of_one_family(self, estimator: Estimator, growing: list[Graph]) -> None:
        latencies = [found.latency_us for found in estimator.estimate_many(growing)]
        for smaller, larger in pairwise(latencies):
            assert larger >= smaller * (1 - self.slack)
        assert latencies[-1] > latencies[0]

    def test_what_it_cannot_know_is_refused_by_name(
        self, estimator: Estimator, refused: list[tuple[Graph, str]]
    ) -> None:
        for graph, word in refused:
            with pytest.raises(LanefitError, match=word):
                estimator.estimate(graph)

    def test_names_and_weights_do_not_matter(self, estimator: Estimator, graphs: list[Graph]) -> None:
        graph = graphs[0]
        renamed = replace(graph, nodes=tuple(replace(node, name=f"other_{node.name}") for node in graph.nodes))
        assert estimator.estimate(renamed).latency_us == estimator.estimate(graph).latency_us

    def test_a_saved_estimator_gives_the_same_estimates(
        self, estimator: Estimator, load: Callable[[Path], Estimator], graphs: list[Graph], tmp_path: Path
    ) -> None:
        estimator.save(tmp_path / "estimator.json")
        loaded = load(tmp_path / "estimator.json")
        assert loaded.estimate_many(graphs) == estimator.estimate_many(graphs)
        loaded.save(tmp_path / "again.json")
        assert (tmp_path / "again.json").read_bytes() == (tmp_path / "estimator.json").read_bytes()
