"""One random case of the emulated engine against two independent ones: TOSA's reference model, bit for bit, and
ONNX Runtime, within a stated tolerance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..common.errors import UnsupportedError
from ..common.optimise import Optimise
from ..kernels.element_types import input_name, output_name
from ..kernels.function_ops import Mul, Norm, Reduce, Resize
from ..kernels.movement_ops import Movement, TransposedConv2d
from ..kernels.ops import Conv2d, Op, Pool2d
from ..kernels.reference import Map
from ..targets.emulator import Emulator
from ..targets.encoding import decode, encode
from ..targets.program import Program
from ..targets.spec import EngineSpec
from .compiler import compile_graph
from .graph import Graph, Node
from .precision import Precision, with_precision
from .qdq import has_qdq_form, largest_step, run_qdq, tolerance
from .random_functions import FUNCTIONS
from .random_graphs import random_graph, random_inputs, random_spec
from .random_operators import BEYOND_TOSA, OPERATORS, random_operator
from .reference import run_graph, to_host, to_map
from .tosa import has_tosa_form, run_tosa

ORDERS = ("program", "dma-first", "compute-first", "random")
GRAPH = "graph"
KINDS = (*OPERATORS, GRAPH)
_ATTEMPTS = 50
_RUNS = 2
_BRANCHING = 0.15
_FUNCTIONS = 0.25
_MOVING = 0.2
_MIXED = 0.25
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
    op, name = node.op, type(node.op).__name__
    types = input_name(op), output_name(op)
    shown = () if types == ("int8", "int8") else dict.fromkeys(types)
    return " ".join([name, *_variant(op), *shown])


def _variant(op: Op | Movement) -> tuple[str, ...]:
    match op:
        case Conv2d(depthwise=True) | TransposedConv2d(depthwise=True):
            return ("depthwise",)
        case Pool2d():
            return ("maximum" if op.maximum else "average",)
        case Mul(gate=True):
            return ("gate",)
        case Reduce():
            return (op.mode,)
        case Resize():
            return ("bilinear" if op.bilinear else "nearest",)
        case Norm():
            return ("group" if op.over_map else "layer",)
        case _:
            return ()


def random_case(rng: np.random.Generator, kind: str, presets: Sequence[EngineSpec], *, mixed: float = _MIXED) -> Case:
    """A case of `kind`, one of `KINDS`, on an engine that can hold it: mostly a small one, so that maps are tiled.

    `mixed` is the share of cases in which some operators work on int16 maps.
    """
    for attempt in range(_ATTEMPTS):
        graph = _random_graph(rng) if kind == GRAPH else random_operator(rng, kind)
        if rng.random() < mixed:
            graph = with_precision(graph, _random_precision(rng, graph))
        spec = random_spec(rng, list(presets), graph)
        inputs, order = random_inputs(rng, graph, _RUNS), str(rng.choice(ORDERS))
        try:
            compiled = compile_graph(graph, spec, optimise=_optimise(rng))
        except UnsupportedError:
            continue
        steps = [step.subgraph for step in compiled.plan.steps]
        kernels = tuple(f"{step.kind} (streamed)" if step.streams else str(step.kind) for step in steps)
        return Case(kind, graph, decode(encode(compiled.program)), inputs, order, kernels, attempt)
    raise UnsupportedError(f"no {kind} of {_ATTEMPTS} fits an engine", where=", ".join(s.name for s in presets))


def _optimise(rng: np.random.Generator) -> Optimise:
    """Mostly latency: the search for the least SRAM takes many times as long."""
    return Optimise.SRAM if rng.random() < 0.2 else Optimise.LATENCY


def _random_graph(rng: np.random.Generator) -> Graph:
    """Mostly short graphs; some are long enough for cascades and for maps that wait in DRAM."""
    most = int(rng.choice([6, 6, 6, 14]))
    return random_graph(rng, max_ops=most, branching=_BRANCHING, functions=_FUNCTIONS, moving=_MOVING, kinds=_KINDS)


def _random_precision(rng: np.random.Generator, graph: Graph) -> Precision:
    """int8 or int8x16 for each operator that knows both."""
    names = [node.name for node in graph.nodes]
    return Precision("int8", tuple((name, str(rng.choice(["int8", "int8x16"]))) for name in names))


def device_outputs(case: Case, seed: int = 0) -> dict[str, Map]:
    """What the emulated engine makes of the case."""
    tensors = case.graph.tensors
    given = {name: to_host(value, tensors[name]) for name, value in case.inputs.items()}
    found = Emulator(case.program, order=case.order, seed=seed).run(given)
    return {name: to_map(value, tensors[name]) for name, value in found.items()}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Output elements compared, and in how many of them the engine differs from its oracle.

    That is TOSA's reference model, or our own integer reference for graphs `beyond_tosa`. ONNX Runtime has its say
    on single operators: in how many elements it rounds `otherwise`, by how many `steps` at most, and how many are
    `tolerated`; None elsewhere.
    """

    elements: int
    different: int
    beyond_tosa: bool
    otherwise: int = 0
    steps: int | None = None
    tolerated: int = 0

    @property
    def agrees(self) -> bool:
        return not self.different and (self.steps or 0) <= self.tolerated


def compare(case: Case, seed: int = 0) -> Comparison:
    graph, beyond = case.graph, not has_tosa_form(case.graph)
    device = device_outputs(case, seed)
    oracle = run_graph(graph, case.inputs) if beyond else run_tosa(graph, case.inputs)
    elements = sum(oracle[name].size for name in graph.outputs)
    found = Comparison(elements, _count(device, oracle), beyond)
    if len(graph.nodes) > 1 or not has_qdq_form(graph):
        return found
    second = run_qdq(graph, case.inputs)
    steps = largest_step(device, second)
    return replace(found, otherwise=_count(device, second), steps=steps, tolerated=tolerance(graph))


def _count(a: Mapping[str, Map], b: Mapping[str, Map]) -> int:
    return sum(int((a[name] != b[name]).sum()) for name in a)


def suspects(case: Case) -> tuple[str, ...]:
    """Operators to blame for a difference: the first that our integer reference and TOSA see differently, or, when
    those two agree and so the compiled program is wrong, all of them."""
    if not has_tosa_form(case.graph):
        return case.operators
    whole = Graph(
        case.graph.nodes,
        case.graph.tensors,
        case.graph.inputs,
        tuple(node.output for node in case.graph.nodes),
        case.graph.constants,
        fixed=case.graph.fixed,
    )
    ours, oracle = run_graph(whole, case.inputs), run_tosa(whole, case.inputs)
    wrong = [node for node in case.graph.nodes if not np.array_equal(ours[node.output], oracle[node.output])]
    return (operator_name(wrong[0]),) if wrong else case.operators
