"""Products of two activations, from graphs to programs."""

from dataclasses import replace

import numpy as np
import pytest

from lanefit.common.errors import ProgramFault, UnsupportedError
from lanefit.export.compiler import compile_graph
from lanefit.export.graph import Graph, Node, Quantisation, Tensor
from lanefit.export.precision import Precision, with_precision
from lanefit.export.reference import run_graph, to_host
from lanefit.kernels.element_types import PRECISIONS
from lanefit.kernels.ops import MatMul
from lanefit.kernels.subgraph import Memory
from lanefit.targets.emulator import Emulator
from lanefit.targets.isa import Opcode, Unit
from lanefit.targets.spec import load_spec

SPEC = load_spec("ne-64")


def tensor(rng: np.random.Generator, name: str, shape: tuple[int, int, int], scale: float) -> Tensor:
    stored = Quantisation(float(np.float32(scale)), int(rng.integers(-128, 128)))
    return Tensor(name, shape, stored, shape, channels_last=True)


def attention(rng: np.random.Generator) -> Graph:
    """Queries by keys, then the result by values: the two products of attention, without its softmax."""
    groups, rows, columns, depth, width = (int(rng.integers(1, most)) for most in (7, 30, 30, 20, 20))
    scores = MatMul((groups, rows, depth), (groups, columns, depth), transposed=True)
    mixed = MatMul(scores.output, (groups, columns, width))
    sizes = {"q": scores.input, "k": scores.other, "s": scores.output, "v": mixed.other, "y": mixed.output}
    spread = 0.02 * np.sqrt(depth)
    scales = {"q": 0.02, "k": 0.02, "s": 30 * 0.02 * spread, "v": 0.05, "y": 30 * spread * 0.05 * np.sqrt(columns)}
    tensors = {name: tensor(rng, name, shape, scales[name]) for name, shape in sizes.items()}
    nodes = (Node("scores", scores, ("q", "k"), "s", (-120, 127)), Node("mixed", mixed, ("s", "v"), "y"))
    return Graph(nodes, tensors, ("q", "k", "v"), ("y",))


def draw(rng: np.random.Generator, graph: Graph) -> dict[str, np.ndarray]:
    return {n: rng.integers(-128, 128, (2, *graph.tensors[n].shape)).astype(np.int8) for n in graph.inputs}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("precision", list(PRECISIONS))
def test_the_engine_multiplies_activations_bit_for_bit(seed: int, precision: str) -> None:
    rng = np.random.default_rng(seed)
    graph = attention(rng)
    typed = with_precision(graph, Precision(precision))
    inputs = draw(rng, graph)
    spec = SPEC
    if seed % 2:  # so little that groups stream
        largest = max(t.size_bytes for t in typed.tensors.values())
        spec = replace(SPEC, sram_bytes=4096 + largest // 64 * 64, sram_banks=1)
    order = ("program", "dma-first", "compute-first", "random")[seed % 4]
    program = compile_graph(typed, spec).program
    host = {name: to_host(value, graph.tensors[name]) for name, value in inputs.items()}
    found = Emulator(program, order=order, seed=seed).run(host)["y"]
    np.testing.assert_array_equal(found, to_host(run_graph(typed, inputs)["y"], graph.tensors["y"]))


def test_the_meaning_is_the_rounded_real_product() -> None:
    rng = np.random.default_rng(5)
    graph = attention(rng)
    first = replace(graph, nodes=graph.nodes[:1], inputs=("q", "k"), outputs=("s",))
    inputs = draw(rng, first)
    stored = {name: graph.tensors[name].quantisation for name in inputs}
    q, k = ((x.astype(float) - stored[n].zero_point) * stored[n].scale for n, x in inputs.items())
    own = graph.tensors["s"].quantisation
    exact = np.clip(q @ k.swapaxes(-1, -2) / own.scale + own.zero_point, -120, 127)
    assert np.abs(run_graph(first, inputs)["s"] - exact).max() <= 0.5 + 1e-3


def test_groups_stream_through_one_instruction_in_a_loop() -> None:
    op = MatMul((32, 40, 32), (32, 40, 32), transposed=True)
    rng = np.random.default_rng(0)
    tensors = {n: tensor(rng, n, s, 1.0) for n, s in (("a", op.input), ("b", op.other), ("y", op.output))}
    graph = Graph((Node("product", op, ("a", "b"), "y"),), tensors, ("a", "b"), ("y",))
    small = replace(SPEC, sram_bytes=32768, sram_banks=1)
    compiled = compile_graph(graph, small)
    (step,) = compiled.plan.steps
    assert step.subgraph.input is Memory.TOKENS
    assert step.choice.tiling.rows < 32
    assert [i.opcode for i in compiled.program.queues[Unit.ARRAY]].count(Opcode.MATMUL) == 1
    assert compiled.timing.macs == op.macs
    assert compiled.timing.cycles >= op.macs / small.parallelism


def test_matrices_that_do_not_fit_each_other_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="cannot be multiplied"):
        MatMul((2, 3, 4), (2, 3, 5))
    with pytest.raises(UnsupportedError, match="cannot be multiplied"):
        MatMul((2, 3, 4), (3, 4, 5))


def test_the_reference_refuses_sums_beyond_its_accumulator() -> None:
    op = MatMul((1, 1, 70_000), (1, 70_000, 1))
    tensors = {n: Tensor(n, s, Quantisation(1.0, z)) for n, s, z in (("a", op.input, 127), ("b", op.other, 127))}
    tensors["y"] = Tensor("y", op.output, Quantisation(1e6, 0))
    graph = Graph((Node("product", op, ("a", "b"), "y"),), tensors, ("a", "b"), ("y",))
    inputs = {n: np.full((1, *graph.tensors[n].shape), -128, np.int8) for n in ("a", "b")}
    with pytest.raises(ProgramFault, match="leaves int32"):
        run_graph(graph, inputs)
