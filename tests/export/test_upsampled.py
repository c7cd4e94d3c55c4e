"""Nearest upsampling in front of a convolution becomes phases with the same bits, or stays."""

from dataclasses import replace

import numpy as np
import pytest

from lanefit.export.compiler import compile_graph
from lanefit.export.graph import ConvConstants, Graph
from lanefit.export.movement import expand
from lanefit.export.random_graphs import GraphBuilder, random_inputs
from lanefit.export.reference import run_graph, to_host
from lanefit.export.upsampled import factors
from lanefit.kernels.function_ops import Resize, Scale
from lanefit.kernels.ops import Conv2d, Window
from lanefit.targets.emulator import Emulator
from lanefit.targets.spec import load_spec

SOURCE = (5, 6, 8)


def _repeated(factor: int) -> Resize:
    """Output i lies at input (2i + 1 − factor) / (2 × factor): whichever is nearest repeats each element."""
    scale = Scale(2 * factor, 2, 1 - factor)
    return Resize(SOURCE, (5 * factor, 6 * factor, 8), scale, scale, bilinear=False)


def _graph(kernel: int, pad: int, factor: int, *, largest: int, depthwise: bool = False) -> Graph:
    """Upsampling and convolution with weights up to `largest`."""
    resize = _repeated(factor)
    size = [n + 2 * pad - kernel + 1 for n in resize.output[:2]]
    conv = Conv2d(resize.output, (size[0], size[1], 8), Window(kernel, kernel, 1, 1, pad, pad), depthwise)
    build = GraphBuilder(np.random.default_rng(kernel + factor))
    build.tensor("input", SOURCE, 0.05)
    result = build.add_node(conv, build.add_node(resize, "input", keep_scale=True))
    graph = build.graph((result,))
    ((name, found),) = graph.constants.items()
    assert isinstance(found, ConvConstants)
    weights = np.random.default_rng(0).integers(-largest, largest + 1, found.weights.shape).astype(np.int8)
    return replace(graph, constants={name: replace(found, weights=weights)})


def _assert_bits(graph: Graph) -> None:
    inputs = random_inputs(np.random.default_rng(1), graph, 2)
    device = Emulator(compile_graph(graph, load_spec("ne-256")).program).run(
        {n: to_host(v, graph.tensors[n]) for n, v in inputs.items()}
    )
    for name, value in run_graph(graph, inputs).items():
        np.testing.assert_array_equal(device[name], to_host(value, graph.tensors[name]))


@pytest.mark.parametrize(("kernel", "pad"), [(1, 0), (2, 0), (3, 1), (3, 0), (5, 2), (4, 2), (5, 0)])
@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("depthwise", [False, True])
def test_phases_have_the_bits_of_resize_and_convolution(kernel: int, pad: int, factor: int, depthwise: bool) -> None:
    graph = _graph(kernel, pad, factor, largest=5, depthwise=depthwise)
    assert not any(isinstance(node.op, Resize) for node in expand(graph).nodes)
    _assert_bits(graph)


def test_the_fold_saves_multiplications() -> None:
    graph = _graph(3, 1, 2, largest=5)
    assert expand(graph).macs == graph.macs * 16 // 36


def test_sums_beyond_int8_keep_the_resize() -> None:
    graph = _graph(3, 1, 2, largest=127)
    assert any(isinstance(node.op, Resize) for node in expand(graph).nodes)
    _assert_bits(graph)


def test_only_nearest_resizes_by_whole_factors_repeat() -> None:
    assert factors(_repeated(2)) == (2, 2)
    assert factors(replace(_repeated(2), bilinear=True)) is None
    shifted = Scale(4, 2, 1)
    assert factors(replace(_repeated(2), vertical=shifted)) is None
