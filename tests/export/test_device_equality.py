"""The device gives the bits of the independent integer reference, on random graphs over all kernels and presets."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from lanefit.common.errors import UnsupportedError
from lanefit.common.optimise import Optimise
from lanefit.export.compiler import compile_graph
from lanefit.export.graph import ConvConstants, Graph
from lanefit.export.random_graphs import random_graph, random_inputs, random_spec
from lanefit.export.reference import run_graph
from lanefit.targets.emulator import Emulator
from lanefit.targets.encoding import decode, encode
from lanefit.targets.spec import EngineSpec, load_spec, preset_names

PRESETS = [load_spec(name) for name in preset_names()]
ROOMY = [load_spec(name) for name in ("ne-64", "ne-256", "ne-1024")]
SELF_CONTAINED = [  # constants in flash, everything else in SRAM
    replace(
        load_spec(name),
        name=f"{name}-self-contained",
        io_memory="sram",
        spill=False,
        flash_bytes_per_cycle=1.0,
        flash_latency_cycles=64,
        weight_decoder=True,
    )
    for name in ("ne-64", "ne-256")
]


def _to_host(graph: Graph, name: str, value: np.ndarray) -> np.ndarray:
    tensor = graph.tensors[name]
    ordered = value if tensor.channels_last else value.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(ordered).reshape(len(value), *tensor.host_shape)


def _assert_device_equals_reference(
    graph: Graph, spec: EngineSpec, seed: int, order: str, optimise: Optimise = Optimise.LATENCY
) -> None:
    inputs = random_inputs(np.random.default_rng(seed), graph, 2)
    program = decode(encode(compile_graph(graph, spec, optimise=optimise).program))
    device = Emulator(program, order=order, seed=seed).run({n: _to_host(graph, n, v) for n, v in inputs.items()})
    expected = run_graph(graph, inputs)
    for name in graph.outputs:
        np.testing.assert_array_equal(device[name], _to_host(graph, name, expected[name]), err_msg=name)


def _sparse(graph: Graph, rng: np.random.Generator) -> Graph:
    """The graph with some of the weights of every convolution set to zero."""
    constants = dict(graph.constants)
    for name, held in graph.constants.items():
        if isinstance(held, ConvConstants):
            kept = rng.random(held.weights.shape) < rng.choice([0.1, 0.5, 1.0])
            constants[name] = replace(held, weights=held.weights * kept)
    return replace(graph, constants=constants)


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(seed=st.integers(0, 2**31), order=st.sampled_from(["program", "dma-first", "compute-first", "random"]))
def test_device_equals_the_integer_reference_on_random_graphs(seed: int, order: str) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, branching=0.15, functions=0.3)
    spec = random_spec(rng, PRESETS, graph)
    try:
        compile_graph(graph, spec)
    except UnsupportedError:
        assume(False)  # the drawn SRAM is too small for a single tile; test_plan.py looks at such refusals
    _assert_device_equals_reference(graph, spec, seed, order)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(seed=st.integers(0, 2**31), order=st.sampled_from(["program", "dma-first", "compute-first", "random"]))
def test_device_equals_the_integer_reference_on_graphs_with_cuboid_attention(seed: int, order: str) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, max_ops=4, branching=0.2, functions=0.2, attention=0.6)
    spec = ROOMY[int(rng.integers(len(ROOMY)))]
    small = int(spec.sram_bytes * rng.uniform(0.1, 1.0)) // 64 * 64  # tiles of attention hold much beside their maps
    spec = replace(spec, name=f"{spec.name}-{small}", sram_bytes=small, sram_banks=1)
    try:
        compile_graph(graph, spec)
    except UnsupportedError:
        assume(False)
    _assert_device_equals_reference(graph, spec, seed, order)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(st.integers(0, 2**31), st.sampled_from(["dma-first", "compute-first", "random"]), st.sampled_from(Optimise))
def test_an_engine_without_dram_gives_the_same_bits(seed: int, order: str, optimise: Optimise) -> None:
    rng = np.random.default_rng(seed)
    graph = _sparse(random_graph(rng, max_ops=8), rng)
    spec = random_spec(rng, SELF_CONTAINED, graph)
    try:
        plan = compile_graph(graph, spec).plan
    except UnsupportedError:
        assume(False)
        return
    assert not plan.spilled()
    _assert_device_equals_reference(graph, spec, seed, order, optimise)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(seed=st.integers(0, 2**31), order=st.sampled_from(["program", "dma-first", "compute-first", "random"]))
def test_the_least_sram_gives_the_same_bits(seed: int, order: str) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, max_ops=9)
    spec = random_spec(rng, PRESETS, graph)
    try:
        compile_graph(graph, spec)
    except UnsupportedError:
        assume(False)
    _assert_device_equals_reference(graph, spec, seed, order, Optimise.SRAM)


@pytest.mark.parametrize("order", ["program", "dma-first", "compute-first", "random"])
def test_no_interleaving_of_the_units_changes_a_result(order: str) -> None:
    rng = np.random.default_rng(20)
    _assert_device_equals_reference(random_graph(rng, max_ops=12, functions=0.3), PRESETS[0], 20, order)
