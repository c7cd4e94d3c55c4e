"""Random shape-only graphs of the classifier family, and a small estimator that the tests share."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np

from lanefit.estimator.fit import FitBudget, fit_engine
from lanefit.estimator.network import NetworkEstimator
from lanefit.export.graph import Graph, Node, Tensor
from lanefit.kernels.ops import Conv2d, Window
from lanefit.models.architecture import Architecture
from lanefit.models.registry import families
from lanefit.nas.bridge import to_graph
from lanefit.nas.space import Space
from lanefit.targets.spec import load_spec

FAMILY = families.get("ibn-classifier")
SMALL = FitBudget(workloads=150, probes_per_kind=12, networks=6, trees=40)


def sample_architectures(count: int, seed: int) -> list[Architecture]:
    space = Space.of(FAMILY)
    return [space.sample(int(value)) for value in np.random.SeedSequence(seed).generate_state(count)]


def sample_graph(architecture: Architecture) -> Graph:
    return to_graph(FAMILY.layers(architecture, input_channels=1, classes=10))


def sample_graphs(count: int, seed: int) -> list[Graph]:
    return [sample_graph(architecture) for architecture in sample_architectures(count, seed)]


@cache
def small_estimator() -> NetworkEstimator:
    return fit_engine(load_spec("ne-256"), sample_graphs(24, seed=1), seed=0, budget=SMALL)


def conv_graph(channels: int, *, size: int = 12, kernel: int = 3) -> Graph:
    """input → convolution → convolution of the same shape → output, `channels` wide."""
    shape = (size, size, channels)
    window = Window(kernel, kernel, 1, 1, kernel // 2, kernel // 2)
    names = ("input", "first", "second", "third")
    nodes = tuple(Node(name, Conv2d(shape, shape, window), (source,), name) for source, name in pairwise(names))
    return Graph(nodes, {name: Tensor(name, shape) for name in names}, ("input",), ("third",))
