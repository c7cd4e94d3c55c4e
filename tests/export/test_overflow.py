"""Scales that would overflow a RESCALE are refused when the graph is compiled."""

from dataclasses import replace

import numpy as np
import pytest

from lanefit.common.errors import UnsupportedError
from lanefit.export.compiler import compile_graph
from lanefit.export.graph import Graph, Quantisation
from lanefit.export.random_operators import OPERATORS, random_operator
from lanefit.targets.spec import load_spec

SPEC = load_spec("ne-256")


def finer(graph: Graph, factor: float) -> Graph:
    """The graph with the scale of its result made so much smaller."""
    (name,) = graph.outputs
    tensor = graph.tensors[name]
    scale = Quantisation(tensor.quantisation.scale * factor, tensor.quantisation.zero_point)
    return replace(graph, tensors={**graph.tensors, name: replace(tensor, quantisation=scale)})


@pytest.mark.parametrize("kind", ["conv2d", "linear", "add", "requantise", "average_pool", "mul", "reduce", "softmax"])
def test_a_scale_far_too_fine_is_refused_with_the_operator(kind: str) -> None:
    assert kind in OPERATORS
    graph = random_operator(np.random.default_rng(3), kind)
    compile_graph(graph, SPEC)
    with pytest.raises(UnsupportedError, match=r"RESCALE|scale .* is too large") as caught:
        compile_graph(finer(graph, 1e-12), SPEC)
    assert caught.value.where == f"node {graph.nodes[0].name!r}"
    assert caught.value.hint
