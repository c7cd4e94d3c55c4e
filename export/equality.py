"""One random case of the emulated engine against the TOSA reference model: bits, and which operator parts them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..common.errors import UnsupportedError
from ..kernels.reference import Map
from ..targets.emulator import Emulator
from ..targets.encoding import decode, encode
from ..targets.program import Program
from ..targets.spec import EngineSpec
from .compiler import compile_graph
from .graph import Graph, Node
from .random_graphs import random_graph, random_inputs, random_spec
from .random_operators import OPERATORS, random_operator
from .reference import run_graph, to_host, to_map
from .tosa import run_tosa

ORDERS = ("program", "dma-first", "compute-first", "random")
GRAPH = "graph"
KINDS = (*OPERATORS, GRAPH)
_ATTEMPTS = 50
_RUNS = 2
_BRANCHING = 0.15


@dataclass(frozen=True, slots=True)
class Case:
    """A graph, its program as decoded from bytes, int8 inputs (runs, height, width, channels), and a unit order."""

    kind: str
    graph: Graph
    program: Program
    inputs: Mapping[str, Map]
    order: str
    kernels: tuple[str, ...]  # kinds of the placed subgraphs, and whether they stream
    refused: int = 0  # draws before this one that found the engine too small

    @property
    def operators(self) -> tuple[str, ...]:
        return tuple(operator_name(node) for node in self.graph.nodes)


def operator_name(node: Node) -> str:
    """Name of a node's operator in reports: the class, and the variant where there are several."""
    name = type(node.op).__name__
    if getattr(node.op, "depthwise", False):
        return f"{name} depthwise"
    maximum = getattr(node.op, "maximum", None)
    return name if maximum is None else f"{name} {'maximum' if maximum else 'average'}"


def random_case(rng: np.random.Generator, kind: str, presets: Sequence[EngineSpec]) -> Case:
    """A case of `kind`, one of `KINDS`, on an engine that can hold it: mostly a small one, so that maps are tiled."""
    for attempt in range(_ATTEMPTS):
        graph = random_graph(rng, branching=_BRANCHING) if kind == GRAPH else random_operator(rng, kind)
        spec = random_spec(rng, list(presets), graph)
        inputs, order = random_inputs(rng, graph, _RUNS), str(rng.choice(ORDERS))
        try:
            compiled = compile_graph(graph, spec)
        except UnsupportedError:
            continue
        steps = [step.subgraph for step in compiled.plan.steps]
        kernels = tuple(f"{step.kind} (streamed)" if step.streams else str(step.kind) for step in steps)
        return Case(kind, graph, decode(encode(compiled.program)), inputs, order, kernels, attempt)
    raise UnsupportedError(f"no {kind} of {_ATTEMPTS} fits an engine", where=", ".join(s.name for s in presets))


def device_outputs(case: Case, seed: int = 0) -> dict[str, Map]:
    """What the emulated engine makes of the case."""
    tensors = case.graph.tensors
    given = {name: to_host(value, tensors[name]) for name, value in case.inputs.items()}
    found = Emulator(case.program, order=case.order, seed=seed).run(given)
    return {name: to_map(value, tensors[name]) for name, value in found.items()}


def compare(case: Case, seed: int = 0) -> tuple[int, int]:
    """How many output elements were compared, and in how many the engine and the TOSA reference model differ."""
    device, oracle = device_outputs(case, seed), run_tosa(case.graph, case.inputs)
    compared = sum(oracle[name].size for name in case.graph.outputs)
    return compared, sum(int((device[name] != oracle[name]).sum()) for name in case.graph.outputs)


def suspects(case: Case) -> tuple[str, ...]:
    """Operators to blame for a difference: the first that our integer reference and TOSA see differently, or, when
    those two agree and so the compiled program is wrong, all of them."""
    whole = Graph(
        case.graph.nodes,
        case.graph.tensors,
        case.graph.inputs,
        tuple(node.output for node in case.graph.nodes),
        case.graph.constants,
    )
    ours, oracle = run_graph(whole, case.inputs), run_tosa(whole, case.inputs)
    wrong = [node for node in case.graph.nodes if not np.array_equal(ours[node.output], oracle[node.output])]
    return (operator_name(wrong[0]),) if wrong else case.operators
