"""Synthetic devices for tests of live measuring: their clocks are simulated, so nothing depends on this host."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from lanefit.estimator.live.executed import ExecutedGraph, Value, executed_graph
from lanefit.estimator.live.work import work_of


@dataclass
class Device:
    """A clock in µs, and how much slower than usual everything runs at a time."""

    slowdown: Callable[[float], float] = lambda now: 1.0
    noise: float = 0.0
    seed: int = 0
    now: float = 0.0
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.generator = np.random.default_rng(self.seed)

    def session(self, name: str, latency_us: float) -> SyntheticSession:
        return SyntheticSession(self, name, latency_us)


@dataclass
class SyntheticSession:
    device: Device
    name: str
    latency_us: float
    closed: bool = False
    paused: int = 0

    def run(self) -> float:
        device = self.device
        latency = (
            self.latency_us * device.slowdown(device.now) * float(np.exp(device.noise * device.generator.normal()))
        )
        device.now += latency
        device.log.append(self.name)
        return latency

    def pause(self) -> None:
        self.paused += 1

    def close(self) -> None:
        self.closed = True


def chain(layers: list[tuple[int, int, int, int]]) -> ModelProto:
    """Convolutions in a row; each entry is (channels in, channels out, kernel, size of the map)."""
    first, last = layers[0], layers[-1]
    nodes, constants, name = [], [], "input"
    for number, (channels, made, kernel, _) in enumerate(layers):
        weights = np.zeros((made, channels, kernel, kernel), np.float32)
        constants.append(numpy_helper.from_array(weights, f"w{number}"))
        pads = [kernel // 2] * 4
        nodes.append(
            helper.make_node(
                "Conv", [name, f"w{number}"], [f"t{number}"], f"n{number}", kernel_shape=[kernel] * 2, pads=pads
            )
        )
        name = f"t{number}"
    size = first[3]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, first[0], size, size])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, last[1], size, size])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def chain_graph(layers: list[tuple[int, int, int, int]]) -> ExecutedGraph:
    return unoptimised(chain(layers))


def unoptimised(model: ModelProto) -> ExecutedGraph:
    """The operators of a model as they stand in it, with the shapes of ONNX's own inference."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    infos = (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output)
    shapes = {i.name: Value(tuple(d.dim_value for d in i.type.tensor_type.shape.dim), "float32") for i in infos}
    return executed_graph(model, shapes)


def _interrupt() -> None:
    raise KeyboardInterrupt


@dataclass
class SyntheticRunner:
    """A runtime whose latency is known: 3 µs a run, 1 µs and 25 µs per million MACs an operator, a bit by kernel."""

    device_model: Device = field(default_factory=Device)
    device: str = "synthetic"
    toolchain: str = "synthetic 1"
    threads: int = 1
    prepared: int = 0
    fail_after: int | None = None
    failure: Callable[[], None] = _interrupt

    @property
    def graph_is_known(self) -> bool:
        return False

    def executed(self, model: ModelProto) -> ExecutedGraph:
        return unoptimised(model)

    def prepare(self, model: ModelProto, *, sweep_bytes: int = 0) -> SyntheticSession:
        self.prepared += 1
        if self.fail_after is not None and self.prepared > self.fail_after:
            self.failure()
        return self.device_model.session(f"model{self.prepared}", true_latency_us(self.executed(model)))

    @contextmanager
    def ready(self) -> Iterator[None]:
        yield

    def state(self) -> Mapping[str, str | float]:
        return {"clock_mhz": 1000.0}


def true_latency_us(graph: ExecutedGraph) -> float:
    found = 3.0
    for node in graph.nodes:
        work = work_of(node.operator)
        found += 1.0 + 25.0 * work.macs / 1e6 * (1.2 if node.operator.integers("kernel_shape") == (3, 3) else 1.0)
    return found
