"""What a network costs on a target, told quickly: engines compile it with placeholder scales, devices estimate it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from onnx import ModelProto

from ...common.units import cycles_to_us
from ...export.blank import with_zero_weights
from ...export.compiler import Compiled, compile_graph
from ...export.judgement import refused
from ...export.linear_form import linear_form
from ...export.onnx_model import GraphIndex
from ...export.pipeline import Built, build, quantised
from ...export.quantise import quantise, random_calibration
from ...targets.spec import EngineSpec
from ..bridge import to_graph
from .draft import multiply_accumulates
from .rule import Lanes

if TYPE_CHECKING:
    from ...estimator.devices.estimator import DeviceEstimator
    from ...estimator.opgraph.graph import OperatorGraph
    from ...models.layers import LayerSpec


@dataclass(frozen=True, slots=True)
class Share:
    """Operators that a target runs as one piece, by their ONNX names, and what the piece adds to the latency."""

    operators: frozenset[str]
    latency_us: float


@dataclass(frozen=True, slots=True)
class Costing:
    """One model on one target. `sram_bytes` is the peak of activations and workspaces. `cpu_operators` have no time:
    how long the host takes for them is not known. `shares` is empty where a target tells of whole networks only."""

    latency_us: float
    sram_bytes: int
    weight_bytes: int
    macs: int
    cpu_operators: int = 0
    shares: tuple[Share, ...] = ()


class Judge(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def lanes(self) -> Lanes: ...

    def model_cost(self, model: ModelProto) -> Costing:
        """The estimated cost of a float model."""
        ...

    def layers_cost(self, layers: Sequence[LayerSpec]) -> Costing:
        """The estimated cost of a network given as layers. `UnsupportedError` for a layer that the target lacks."""
        ...


class EngineJudge:
    """An engine of ours, whose compiler and timing model tell the latency of a program from shapes alone.

    Estimated is with one scale for each weight, from noise: calibration data and a scale for each channel change what
    is computed, not how long it takes (but for weights that a decoder unpacks, whose size depends on their values).
    """

    def __init__(self, spec: EngineSpec) -> None:
        self.name, self.lanes, self._spec = spec.name, Lanes.of(spec), spec

    def model_cost(self, model: ModelProto) -> Costing:
        whole = linear_form(model)
        index = GraphIndex(whole)
        int8 = quantise(whole, random_calibration(index.shape(index.inputs[0])), per_channel=False)
        return _costing(build(int8, self._spec), model)

    def layers_cost(self, layers: Sequence[LayerSpec]) -> Costing:
        found = compile_graph(with_zero_weights(to_graph(layers)), self._spec)
        macs = sum(layer.macs for layer in layers)
        shares = tuple(_piece_shares(found, self._spec))
        return Costing(found.latency_us, found.sram_bytes, found.weight_bytes, macs, 0, shares)

    def compiled(self, model: ModelProto) -> Costing:
        """The cost as `lanefit export` finds it: a scale for each channel."""
        index = GraphIndex(model)
        models = quantised(model, random_calibration(index.shape(index.inputs[0])))
        return _costing(build(models.int8, self._spec), model)


class DeviceJudge:
    """A board or host that was calibrated from measurements (see docs/calibrate.md and docs/estimator.md)."""

    def __init__(self, estimator: DeviceEstimator) -> None:
        self.name, self.lanes, self._estimator = estimator.card.target, Lanes(), estimator

    def model_cost(self, model: ModelProto) -> Costing:
        from ...estimator.opgraph.onnx_reader import operator_graph

        return self._cost(operator_graph(model), multiply_accumulates(model))

    def layers_cost(self, layers: Sequence[LayerSpec]) -> Costing:
        from ..operator_bridge import to_operator_graph

        return self._cost(to_operator_graph(layers), sum(layer.macs for layer in layers))

    def _cost(self, graph: OperatorGraph, macs: int) -> Costing:
        from ...estimator.opgraph.memory import device_memory

        found, memory = self._estimator.estimate(graph), device_memory(graph)
        return Costing(found.latency_us, memory.arena_bytes, memory.weight_bytes, macs)


def _costing(built: Built, model: ModelProto) -> Costing:
    shares = tuple(share for item in built.compiled for share in _piece_shares(item, built.spec))
    macs, on_cpu = multiply_accumulates(model), len(refused(built.placements))
    return Costing(built.latency_us, built.sram_bytes, built.weight_bytes, macs, on_cpu, shares)


def _piece_shares(item: Compiled, spec: EngineSpec) -> Iterator[Share]:
    sources = {node.name: node.source for node in item.graph.nodes}
    for report in item.report:
        names = frozenset(name for node in report.nodes for name in sources.get(node) or (node,))
        yield Share(names, cycles_to_us(report.cycles - report.hidden_cycles, spec.clock_mhz))
