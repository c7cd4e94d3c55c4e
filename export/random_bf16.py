"""Random cases of one operator that reads or writes bf16, and how near the emulated engine comes to float64."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..common.errors import UnsupportedError
from ..kernels.element_types import full_range
from ..targets.elements import rounded_to_bf16
from ..targets.emulator import Emulator
from ..targets.encoding import decode, encode
from ..targets.program import Program
from ..targets.spec import EngineSpec
from .compiler import compile_graph
from .float_bounds import float64_results
from .graph import Graph, Node, Tensor
from .precision import Precision, with_precision
from .random_functions import FUNCTIONS
from .random_graphs import random_spec
from .random_operators import random_operator
from .reference import to_host, to_map

BF16_KINDS = (
    "conv2d", "depthwise", "linear", "matmul", "max_pool", "average_pool", "add", "requantise", *FUNCTIONS,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bf16Case:
    """A graph of one operator, its program, and inputs (runs, height, width, channels): float32 where they are bf16."""

    graph: Graph
    program: Program
    inputs: Mapping[str, NDArray]

    @property
    def node(self) -> Node:
        return self.graph.nodes[0]

    def share_of_bound(self) -> float:
        """The engine's largest error as a share of what rounding may cost; a sound engine stays below 1."""
        tensors = self.graph.tensors
        given = {name: to_host(value, tensors[name]) for name, value in self.inputs.items()}
        (output,) = self.graph.outputs
        found = to_map(Emulator(self.program).run(given)[output], tensors[output])
        return float64_results(self.graph, self.inputs).worst(found)


def random_bf16_cases(rng: np.random.Generator, kind: str, presets: Sequence[EngineSpec]) -> Iterator[Bf16Case]:
    """An operator of `kind`, one of `BF16_KINDS`, and the conversions before and behind it, each as a case.

    Fewer where the drawn engine is too small.
    """
    whole = with_precision(random_operator(rng, kind), Precision("bf16"))
    for node in whole.nodes:
        graph = _alone(rng, whole, node)
        inputs = {name: _values(rng, graph.tensors[name]) for name in graph.inputs}
        try:
            program = compile_graph(graph, random_spec(rng, list(presets), graph)).program
        except UnsupportedError:
            continue
        yield Bf16Case(graph, decode(encode(program)), inputs)


def _alone(rng: np.random.Generator, whole: Graph, node: Node) -> Graph:
    """`node` as a graph; a clamp hides errors, so half of the cases have none."""
    dtype = whole.tensors[node.output].dtype
    if rng.random() < 0.5:
        node = replace(node, clamp=full_range(dtype))
    tensors = {name: whole.tensors[name] for name in (*node.inputs, node.output)}
    constants = {name: value for name, value in whole.constants.items() if name == node.name}
    return Graph((node,), tensors, tuple(dict.fromkeys(node.inputs)), (node.output,), constants)


def _values(rng: np.random.Generator, tensor: Tensor) -> NDArray:
    """Two runs of any int8, or of bf16 numbers around a drawn magnitude; some cancel each other."""
    shape = (2, *tensor.shape)
    if tensor.dtype == "int8":
        return rng.integers(-128, 128, shape).astype(np.int8)
    values = rng.standard_normal(shape) * 2.0 ** rng.uniform(-12, 12)
    if rng.random() < 0.3:
        values = np.sign(values) * np.abs(values).mean() * (1 + rng.uniform(0, 0.05, shape))
    return rounded_to_bf16(values.astype(np.float32))
