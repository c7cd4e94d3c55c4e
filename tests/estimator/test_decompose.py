"""The decomposition is the compiler's partition, from shapes alone, and its sizes are exact."""

from dataclasses import replace

import numpy as np
import pytest
from estimator.sample_graphs import FAMILY, sample_architectures, sample_graph, sample_graphs
from hypothesis import given, settings
from hypothesis import strategies as st

from lanefit.common.errors import UnsupportedError
from lanefit.estimator.decompose import Decomposition, decompose, distinct_workloads, workload
from lanefit.export.compiler import compile_graph
from lanefit.export.importer import import_model
from lanefit.export.onnx_export import to_onnx
from lanefit.export.quantise import quantise, random_calibration
from lanefit.export.random_graphs import random_graph, random_spec
from lanefit.targets.spec import load_spec, preset_names

SPEC = load_spec("ne-256")


def _pieces(found: Decomposition) -> list[tuple[object, ...]]:
    return [(step.subgraph, step.choice.tiling, step.prefetch, step.drain) for step in found.steps]


@pytest.mark.parametrize("sram_kib", [512, 24])
def test_shapes_alone_decompose_as_the_exported_network_does(sram_kib: int) -> None:
    architecture = sample_architectures(1, seed=11)[0]
    spec = replace(SPEC, name=f"ne-256-{sram_kib}k", sram_bytes=sram_kib * 1024)
    module = FAMILY.build(architecture, input_channels=1, classes=10).eval()
    shape = (1, *FAMILY.input_shape(architecture, 1))
    (region,) = import_model(quantise(to_onnx(module, shape), random_calibration(shape))).regions
    fast, real = decompose(sample_graph(architecture), spec), decompose(region.graph, spec)
    assert _pieces(fast) == _pieces(real)
    assert fast.sram_bytes == real.sram_bytes
    assert fast.weight_bytes == real.weight_bytes
    assert fast.dram_bytes == real.dram_bytes
    assert fast.macs == real.macs


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_sizes_equal_those_of_the_compiled_program(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng)
    spec = random_spec(rng, [load_spec(name) for name in preset_names()], graph)
    try:
        compiled = compile_graph(graph, spec)
    except UnsupportedError:
        return
    found = decompose(replace(graph, constants={}), spec)
    assert found.sram_bytes == compiled.sram_bytes
    assert found.weight_bytes == compiled.weight_bytes
    assert compiled.dram_bytes == compiled.timing.dram_bytes
    if spec.weight_decoder:  # shapes do not say how many weights are zero
        assert found.dram_bytes >= compiled.dram_bytes
    else:
        assert found.dram_bytes == compiled.dram_bytes
    assert found.macs == compiled.timing.macs == graph.macs


def test_a_workload_that_occurs_twice_is_listed_once() -> None:
    graphs = sample_graphs(3, seed=12)
    found = distinct_workloads([*graphs, *graphs], SPEC)
    assert len(found) == len(set(found))
    assert set(found) == {workload(step) for graph in graphs for step in decompose(graph, SPEC).steps}
