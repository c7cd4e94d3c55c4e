"""One random case of the emulated engine against two independent ones: TOSA's reference model, bit for bit, and
ONNX Runtime, within a stated tolerance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..common.errors import UnsupportedError
from ..common.optimise import Optimise
from ..kernels.reference import Map
from ..targets.emulator import Emulator
from ..targets.encoding import decode, encode
from ..targets.program import Program
from ..targets.spec import EngineSpec
from .compiler import compile_graph
from .graph import Graph, Node
from .qdq import has_qdq_form, largest_step, run_qdq
from .random_functions import FUNCTIONS
from .random_graphs import random_graph, random_inputs, random_spec
from .random_operators import BEYOND_TOSA, OPERATORS, random_operator
from .reference import run_graph, to_host, to_map
from .tosa import run_tosa

ORDERS = ("program", "dma-first", "compute-first", "random")
GRAPH = "graph"
KINDS = (*(kind for kind in OPERATORS if kind not in BEYOND_TOSA), GRAPH)
_ATTEMPTS = 50
_RUNS = 2
_BRANCHING = 0.15
_FUNCTIONS = 0.25
_KINDS = tuple(kind for kind in FUNCTIONS if kind not in BEYOND_TOSA)


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
        graph = _random_graph(rng) if kind == GRAPH else random_operator(rng, kind)
        spec = random_spec(rng, list(presets), graph)
        inputs, order = random_inputs(rng, graph, _RUNS), str(rng.choice(ORDERS))
        try:
            compiled = compile_graph(graph, spec, optimise=Optimise(rng.choice(list(Optimise))))
        except UnsupportedError:
            continue
        steps = [step.subgraph for step in compiled.plan.steps]
        kernels = tuple(f"{step.kind} (streamed)" if step.streams else str(step.kind) for step in steps)
        return Case(kind, graph, decode(encode(compiled.program)), inputs, order, kernels, attempt)
    raise UnsupportedError(f"no {kind} of {_ATTEMPTS} fits an engine", where=", ".join(s.name for s in presets))


def _random_graph(rng: np.random.Generator) -> Graph:
    """Mostly short graphs; some are long enough for cascades and for maps that wait in DRAM."""
    most = int(rng.choice([6, 6, 6, 14]))
    return random_graph(rng, max_ops=most, branching=_BRANCHING, functions=_FUNCTIONS, kinds=_KINDS)


def device_outputs(case: Case, seed: int = 0) -> dict[str, Map]:
    """What the emulated engine makes of the case."""
    tensors = case.graph.tensors
    given = {name: to_host(value, tensors[name]) for name, value in case.inputs.items()}
    found = Emulator(case.program, order=case.order, seed=seed).run(given)
    return {name: to_map(value, tensors[name]) for name, value in found.items()}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Output elements compared, those that differ from TOSA, those that differ from ONNX Runtime and by how much.

    ONNX Runtime has its say on single operators only; elsewhere `steps` is None.
    """

    elements: int
    different: int
    rounded_otherwise: int = 0
    steps: int | None = None


def compare(case: Case, seed: int = 0) -> Comparison:
    device, oracle = device_outputs(case, seed), run_tosa(case.graph, case.inputs)
    elements = sum(oracle[name].size for name in case.graph.outputs)
    different = _count(device, oracle)
    if len(case.graph.nodes) > 1 or not has_qdq_form(case.graph):
        return Comparison(elements, different)
    second = run_qdq(case.graph, case.inputs)
    return Comparison(elements, different, _count(device, second), largest_step(device, second))


def _count(a: Mapping[str, Map], b: Mapping[str, Map]) -> int:
    return sum(int((a[name] != b[name]).sum()) for name in a)


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
