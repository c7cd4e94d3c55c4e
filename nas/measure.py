"""The cost of a network as compiled and timed, for finalists: no estimate, no training needed."""

from __future__ import annotations

from collections.abc import Callable

from ..export.blank import with_zero_weights
from ..export.compiler import Compiled, compile_graph
from ..export.graph import Graph
from ..targets.spec import EngineSpec
from .scoring import Cost


def compile_shapes(graph: Graph, spec: EngineSpec) -> Compiled:
    """The compiled network of a shape-only graph. Weights do not change the time, so zeros stand in for them.

    Raises `UnsupportedError` for a graph that the engine cannot run.
    """
    return compile_graph(with_zero_weights(graph), spec)


def engine_measure(spec: EngineSpec) -> Callable[[Graph], Cost]:
    """A function that costs a shape-only graph as compiled by `compile_shapes`: no interval, nothing extrapolated."""

    def measure(graph: Graph) -> Cost:
        compiled = compile_shapes(graph, spec)
        return Cost(
            latency_us=compiled.latency_us,
            latency_upper_us=compiled.latency_us,
            sram_bytes=compiled.sram_bytes,
            weight_bytes=compiled.weight_bytes,
            dram_bytes=compiled.dram_bytes,
            macs=graph.macs,
        )

    return measure
