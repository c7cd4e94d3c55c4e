from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from nas_fakes import TOY

from lanefit.estimator.opgraph.graph import OperatorGraph
from lanefit.export.graph import Graph
from lanefit.nas.curation import Sampler, device_costs, engine_costs
from lanefit.nas.curation.costs import MEASURES, work_of
from lanefit.targets.spec import load_spec

MIDDLE = TOY.middle()
LAYERS = TOY.layers(MIDDLE, input_channels=3, classes=10)


class Seen:
    """Says what it was asked to estimate."""

    card = SimpleNamespace(target="board")

    def __init__(self) -> None:
        self.graphs: list[Any] = []

    def estimate(self, graph: Any) -> Any:
        self.graphs.append(graph)
        return SimpleNamespace(latency_us=7)


def test_engines_are_asked_for_graphs_and_give_their_lanes() -> None:
    seen: Any = Seen()
    costs = engine_costs(load_spec("ne-1024"), seen)
    assert (costs.latency_us(LAYERS), costs.target, costs.lanes) == (7.0, "ne-1024", 32)
    assert isinstance(seen.graphs[0], Graph)


def test_devices_are_asked_for_operators_and_have_no_known_lanes() -> None:
    seen: Any = Seen()
    costs = device_costs(seen)
    assert (costs.latency_us(LAYERS), costs.target, costs.lanes) == (7.0, "board", None)
    assert isinstance(seen.graphs[0], OperatorGraph)


def test_an_architecture_is_costed_once() -> None:
    seen: Any = Seen()
    sample = Sampler(TOY, device_costs(seen), input_channels=3, classes=10)
    assert sample(MIDDLE) == sample(MIDDLE)
    assert (len(seen.graphs), sample.asked) == (1, 1)


def test_work_is_counted_in_every_measure() -> None:
    work = dict(zip(MEASURES, work_of(LAYERS), strict=True))
    assert work["MACs"] == sum(layer.macs for layer in LAYERS)
    assert work["weights"] == sum(layer.weights for layer in LAYERS)
    assert 0 < work["layers"] < work["map values"]
