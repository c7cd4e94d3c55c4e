"""The cuboid-attention kernel: conformance, bits, traffic and overlap."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_conformance import KernelConformance

from lanefit.common.errors import ModelError, UnsupportedError
from lanefit.export.compiler import compile_graph
from lanefit.export.cuboid_graph import attention_op, cuboid_graph, with_best_leaf
from lanefit.export.reference import run_region
from lanefit.kernels.cuboid_definition import CuboidSelfAttention, parameters_of
from lanefit.kernels.cuboid_geometry import Triple
from lanefit.kernels.cuboid_op import CuboidAttention
from lanefit.kernels.cuboid_parameters import CuboidParameters, Floats, attention
from lanefit.kernels.cuboid_quantise import quantise
from lanefit.kernels.search import candidates
from lanefit.kernels.subgraph import Memory, Subgraph
from lanefit.targets.emulator import Emulator
from lanefit.targets.isa import Opcode, Unit
from lanefit.targets.spec import load_spec

SHIFTED = CuboidAttention((4, 6, 5), 16, 4, (2, 3, 2), (1, 1, 1), padding="ignore")


class TestCuboidKernel(KernelConformance):
    units = frozenset({Unit.ARRAY, Unit.VECTOR})
    subgraphs = (
        Subgraph((CuboidAttention((8, 12, 6), 32, 4, (8, 1, 1)),), Memory.TOKENS, Memory.TOKENS),
        Subgraph((CuboidAttention((4, 8, 16), 32, 2, (1, 1, 16)),), Memory.DRAM, Memory.TOKENS),
        Subgraph((SHIFTED,), Memory.DRAM, Memory.DRAM),
        Subgraph((replace(SHIFTED, global_vectors=4, global_own=True, leaf=2),), Memory.DRAM, Memory.DRAM, Memory.DRAM),
        Subgraph(
            (replace(SHIFTED, global_vectors=4, global_own=True, leaf=2, separate=True),),
            Memory.DRAM,
            Memory.DRAM,
            Memory.DRAM,
        ),
        Subgraph((replace(SHIFTED, strategy=("d", "l", "d"), projected=False),), Memory.HOST, Memory.DRAM),
        Subgraph((replace(SHIFTED, padding="nearest"),), Memory.TOKENS, Memory.DRAM),
    )


def random_layer(
    size: tuple[int, ...], seed: int, channels: int = 8, heads: int = 2, **options: object
) -> CuboidParameters:
    """A layer whose weights make attention far from uniform."""
    torch.manual_seed(seed)
    layer = CuboidSelfAttention(channels, heads, **options)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(0, 0.5)
    t, h, w = size
    return parameters_of(layer, (t, h, w))


def samples(size: Triple, channels: int, seed: int) -> list[Floats]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((*size, channels)) for _ in range(2)]


def drawn_layer(rng: np.random.Generator) -> CuboidParameters:
    size, cuboid = (tuple(int(n) for n in rng.integers(1, most, 3)) for most in (7, 5))
    shift = tuple(int(rng.integers(0, extent)) for extent in cuboid)
    strategy = tuple(rng.choice(["l", "l", "d"], 3).tolist())
    flags = {name: bool(rng.integers(2)) for name in ("qkv_bias", "use_relative_pos", "use_final_proj")}
    return random_layer(
        size, int(rng.integers(99)), cuboid_size=cuboid, shift_size=shift, strategy=strategy,
        padding_type=str(rng.choice(["zeros", "ignore", "nearest"])), **flags,
    )  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["program", "dma-first", "compute-first", "random"]))
def test_the_engine_computes_the_integer_definition(seed: int, order: str) -> None:
    rng = np.random.default_rng(seed)
    p = drawn_layer(rng)
    size, channels = p.cuboids.shape, p.channels
    graph = cuboid_graph(p, quantise(p, samples(size, channels, seed)))
    program = compile_graph(graph, load_spec("ne-64")).program
    x = rng.integers(-128, 128, (2, *size, channels)).astype(np.int8)
    expected = run_region(graph, {"x": x})["y"]
    np.testing.assert_array_equal(Emulator(program, order=order, seed=seed).run({"x": x})["y"], expected)


def drawn_global_layer(rng: np.random.Generator) -> CuboidParameters:
    size, cuboid = (tuple(int(n) for n in rng.integers(1, most, 3)) for most in (6, 4))
    shift = tuple(int(rng.integers(0, extent)) if rng.random() < 0.4 else 0 for extent in cuboid)
    flags = {name: bool(rng.integers(2)) for name in ("qkv_bias", "use_relative_pos", "use_final_proj")}
    return random_layer(
        size, int(rng.integers(99)), cuboid_size=cuboid, shift_size=shift, use_global_vector=True,
        padding_type=str(rng.choice(["zeros", "ignore", "nearest"])), use_global_self_attn=bool(rng.integers(2)),
        separate_global_qkv=bool(rng.integers(2)), official_global_mask=False, **flags,
    )  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["program", "dma-first", "compute-first", "random"]))
def test_the_engine_computes_the_integer_definition_of_global_vectors(seed: int, order: str) -> None:
    rng = np.random.default_rng(seed)
    p, count = drawn_global_layer(rng), int(rng.integers(1, 6))
    size, channels = p.cuboids.shape, p.channels
    vectors = [rng.standard_normal((count, channels)) for _ in range(2)]
    leaf = int(rng.integers(1, 5))
    graph = cuboid_graph(p, quantise(p, samples(size, channels, seed), vectors), global_vectors=count, leaf=leaf)
    program = compile_graph(graph, load_spec("ne-256")).program
    shapes = {"x": (*size, channels), "g": (count, channels)}
    feeds = {name: rng.integers(-128, 128, (2, *shape)).astype(np.int8) for name, shape in shapes.items()}
    found, expected = Emulator(program, order=order, seed=seed).run(feeds), run_region(graph, feeds)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("separate", [False, True])
def test_integer_global_vectors_are_near_the_layer(separate: bool) -> None:
    p = random_layer(
        (4, 6, 4), 0, 32, 4, cuboid_size=(2, 3, 2), padding_type="zeros", use_global_vector=True,
        use_global_self_attn=True, separate_global_qkv=separate,
    )  # fmt: skip
    inputs = samples((4, 6, 4), 32, 5)
    vectors = [np.random.default_rng(n).standard_normal((8, 32)) for n in range(2)]
    q = quantise(p, inputs, vectors)
    x = np.clip(np.rint(inputs[0] / q.input_scale) + q.layer.input_zero, -128, 127).astype(np.int8)
    g = np.clip(np.rint(vectors[0] / q.global_input[0]) + q.global_input[1], -128, 127).astype(np.int8)
    found = q.layer.with_globals(x, g, attention_op(p, global_vectors=8, leaf=2).groups())
    exact = attention(p, inputs[0], vectors[0])
    scales = ((q.output_scale, q.output_zero), q.global_output)
    for value, wanted, (scale, zero) in zip(found, (exact.output, exact.global_output), scales, strict=True):
        assert wanted is not None
        error = (value.astype(float) - zero) * scale - wanted
        assert np.sqrt(np.mean(error**2)) < 0.05 * np.sqrt(np.mean(wanted**2))


def test_leaves_are_chosen_to_fit() -> None:
    op = CuboidAttention((13, 16, 16), 256, 4, (1, 16, 1), global_vectors=8, global_own=True)
    small, large = (with_best_leaf(op, load_spec(name)).leaf for name in ("ne-256", "ne-4096"))
    assert small <= large
    with pytest.raises(UnsupportedError, match="8 global vectors does not fit ne-64"):
        with_best_leaf(op, load_spec("ne-64"))


def test_global_vectors_of_another_width_are_refused() -> None:
    p = random_layer(
        (2, 2, 2), 0, cuboid_size=(2, 1, 1), use_global_vector=True, separate_global_qkv=True, global_dim_ratio=2
    )
    with pytest.raises(UnsupportedError, match="16 channels beside tokens of 8"):
        quantise(p, samples((2, 2, 2), 8, 0), [np.ones((2, 16)) + np.eye(2, 16)] * 2)


@pytest.mark.parametrize("tile", [1, 2, 4])
def test_the_tile_size_changes_no_bit(tile: int) -> None:
    spec = load_spec("ne-256")
    p = random_layer((4, 4, 4), 3, cuboid_size=(2, 2, 1), padding_type="zeros")
    graph = cuboid_graph(p, quantise(p, samples((4, 4, 4), 8, 0)))
    x = np.random.default_rng(0).integers(-128, 128, (1, 4, 4, 4, 8)).astype(np.int8)
    roomy = compile_graph(graph, spec)
    least = min(c.workspace_bytes for c in candidates(roomy.plan.steps[0].subgraph, spec))
    tight = compile_graph(graph, spec, sram_limit_bytes=least * tile)
    assert tight.sram_bytes <= least * tile
    first, second = (Emulator(compiled.program).run({"x": x})["y"] for compiled in (roomy, tight))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    "options",
    [
        {"cuboid_size": (4, 1, 1), "padding_type": "zeros"},
        {"cuboid_size": (2, 3, 2), "shift_size": (1, 1, 1), "padding_type": "ignore", "qkv_bias": True},
    ],
    ids=["axial", "shifted"],
)
def test_the_integers_are_near_the_layer(options: dict[str, object]) -> None:
    p = random_layer((4, 6, 5), 1, channels=32, heads=4, **options)
    inputs = samples((4, 6, 5), 32, 5)
    q = quantise(p, inputs)
    x = np.clip(np.rint(inputs[0] / q.input_scale) + q.layer.input_zero, -128, 127).astype(np.int8)
    found = (q.layer(x).astype(float) - q.output_zero) * q.output_scale
    exact = attention(p, inputs[0]).output
    assert np.sqrt(np.mean((found - exact) ** 2)) < 0.05 * np.sqrt(np.mean(exact**2))


@pytest.mark.parametrize("cuboid", [(6, 1, 1), (1, 8, 1), (1, 1, 8), (3, 4, 4)])
def test_every_byte_crosses_the_dram_port_once(cuboid: Triple) -> None:
    op = CuboidAttention((6, 8, 8), 64, 4, cuboid)
    subgraph = Subgraph((op,), Memory.TOKENS, Memory.TOKENS)
    graph = cuboid_graph(random_layer((6, 8, 8), 0, 64, 4, cuboid_size=cuboid, padding_type="zeros"), None)
    compiled = compile_graph(graph, load_spec("ne-256"))
    assert compiled.plan.steps[0].subgraph == subgraph
    assert compiled.dram_bytes == 2 * 6 * 8 * 8 * 64 + op.constant_bytes


def test_the_vector_unit_works_while_the_array_multiplies() -> None:
    spec = load_spec("ne-256")
    p = random_layer((8, 8, 8), 0, 64, 4, cuboid_size=(8, 1, 1), padding_type="zeros")
    timing = compile_graph(cuboid_graph(p, None), spec).timing
    busy = {unit.unit: unit.busy for unit in timing.units}
    assert timing.cycles < 1.15 * busy[Unit.ARRAY]
    assert busy[Unit.VECTOR] > 0.2 * busy[Unit.ARRAY]


def test_nothing_but_input_output_and_constants_moves() -> None:
    p = random_layer((4, 6, 5), 0, cuboid_size=(2, 3, 2), shift_size=(1, 1, 1), padding_type="ignore")
    program = compile_graph(cuboid_graph(p, None), load_spec("ne-256")).program
    stores = [i for i in program.queues[Unit.DMA_OUT] if i.opcode is Opcode.STORE]
    assert program.dram_bytes <= len(program.constants) + 2 * (4 * 6 * 5 * 8 + 64)
    assert stores


def test_what_the_kernel_cannot_do_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="3 heads do not divide 8"):
        CuboidAttention((4, 4, 4), 8, 3, (2, 2, 2))
    with pytest.raises(UnsupportedError, match="gathers from DRAM"):
        candidates(Subgraph((SHIFTED,), Memory.SRAM, Memory.DRAM), load_spec("ne-256"))


def test_tensors_that_contradict_the_matrices_are_refused() -> None:
    p = random_layer((2, 2, 2), 0, cuboid_size=(2, 1, 1))
    graph = cuboid_graph(p, quantise(p, samples((2, 2, 2), 8, 0)))
    wrong = replace(graph.tensors["x"].quantisation, zero_point=graph.tensors["x"].quantisation.zero_point // 2 + 1)
    graph.tensors["x"] = replace(graph.tensors["x"], quantisation=wrong)
    with pytest.raises(ModelError, match="zero points"):
        compile_graph(graph, load_spec("ne-64"))
