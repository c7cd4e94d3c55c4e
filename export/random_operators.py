"""Random graphs of one operator each, or a few where elements move; `random_graphs` favours what networks favour."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..kernels.function_ops import Mul
from ..kernels.ops import Add, Conv2d, MatMul, Pool2d, Requantise, Shape, Window
from .graph import Graph
from .random_functions import FUNCTIONS, random_function
from .random_graphs import GraphBuilder, random_window
from .random_movement import MOVES, move

Draw = Callable[[GraphBuilder], str]
_MOST_CHANNELS = 70


def random_operator(rng: np.random.Generator, kind: str) -> Graph:
    """A graph of one operator; `kind` is a key of `OPERATORS`."""
    build = GraphBuilder(rng)
    return build.graph((OPERATORS[kind](build),))


def _map(build: GraphBuilder, name: str = "input", shape: Shape | None = None) -> str:
    rng = build.rng
    size = shape or (int(rng.integers(1, 24)), int(rng.integers(1, 24)), int(rng.integers(1, _MOST_CHANNELS)))
    return build.tensor(name, size, float(np.exp(rng.uniform(np.log(1e-4), np.log(10)))))


def _window(build: GraphBuilder, shape: Shape, largest: int, *, pad: bool = True) -> tuple[tuple[int, int], Window]:
    """A window with any kernel up to `largest`, drawn again until it fits; 1×1 fits every map."""
    rng = build.rng
    for _ in range(8):
        kernel = int(rng.integers(1, largest + 1)), int(rng.integers(1, largest + 1))
        stride = int(rng.integers(1, 5)), int(rng.integers(1, 5))
        found = random_window(rng, shape, kernel, stride if rng.random() < 0.6 else (1, 1), pad=pad)
        if found is not None:
            return found
    return shape[:2], Window(1, 1)


def _conv2d(build: GraphBuilder) -> str:
    source = _map(build)
    shape = build.tensors[source].shape
    size, window = _window(build, shape, 6)
    return build.add_node(Conv2d(shape, (*size, int(build.rng.integers(1, _MOST_CHANNELS))), window), source)


def _depthwise(build: GraphBuilder) -> str:
    source = _map(build)
    shape = build.tensors[source].shape
    size, window = _window(build, shape, 7)
    return build.add_node(Conv2d(shape, (*size, shape[2]), window, depthwise=True), source)


def _linear(build: GraphBuilder) -> str:
    shape = (1, 1, int(build.rng.integers(1, 600)))
    source = _map(build, shape=shape)
    return build.add_node(Conv2d(shape, (1, 1, int(build.rng.integers(1, 130))), Window(1, 1)), source)


def _max_pool(build: GraphBuilder) -> str:
    return _pool(build, maximum=True)


def _average_pool(build: GraphBuilder) -> str:
    return _pool(build, maximum=False)


def _pool(build: GraphBuilder, *, maximum: bool) -> str:
    source = _map(build)
    shape = build.tensors[source].shape
    if build.rng.random() < 0.25:
        size, window = (1, 1), Window(*shape[:2])
    else:
        size, window = _window(build, shape, 5, pad=maximum)
    return build.add_node(Pool2d(shape, (*size, shape[2]), window, maximum), source)


def _add(build: GraphBuilder) -> str:
    a = _map(build)
    shape = build.tensors[a].shape
    if build.rng.random() < 0.1:
        return build.add_node(Add(shape), a, a)
    scale = build.tensors[a].quantisation.scale * float(np.exp(build.rng.uniform(-4, 4)))
    return build.add_node(Add(shape), a, build.tensor("other", shape, scale))


def _requantise(build: GraphBuilder) -> str:
    source = _map(build)
    return build.add_node(Requantise(build.tensors[source].shape), source)


def _matmul(build: GraphBuilder) -> str:
    """Scales as for the products of attention: most results lie in range."""
    rng = build.rng
    groups, rows, columns, depth = (int(rng.integers(1, most)) for most in (7, 30, 30, 40))
    transposed = bool(rng.random() < 0.5)
    a = _map(build, shape=(groups, rows, depth))
    b = _map(build, "other", (groups, columns, depth) if transposed else (groups, depth, columns))
    shapes = (build.tensors[a].shape, build.tensors[b].shape)
    return build.add_node(MatMul(*shapes, transposed=transposed), a, b)


def _function(kind: str) -> Draw:
    def draw(build: GraphBuilder) -> str:
        source = _map(build)
        op = random_function(build.rng, build.tensors[source].shape, kind)
        if not isinstance(op, Mul):
            return build.add_node(op, source)
        other = (1, 1, op.output[2]) if op.gate else op.output
        return build.add_node(op, source, _map(build, "other", other))

    return draw


def _movement(kind: str) -> Draw:
    """Drawn again where the map's shape does not suit the kind."""

    def draw(build: GraphBuilder) -> str:
        while True:
            source = _map(build)
            result = move(build, source, kind)
            if result != source:
                return result
            for drawn in (build.nodes, build.tensors, build.constants, build.fixed):
                drawn.clear()

    return draw


OPERATORS: dict[str, Draw] = {
    "conv2d": _conv2d,
    "depthwise": _depthwise,
    "linear": _linear,
    "max_pool": _max_pool,
    "average_pool": _average_pool,
    "add": _add,
    "requantise": _requantise,
    "matmul": _matmul,
    **{kind: _function(kind) for kind in FUNCTIONS},
    **{kind: _movement(kind) for kind in MOVES},
}
BEYOND_TOSA = frozenset({"layer_norm", "group_norm"})  # no sequence of integer TOSA operators has their bits
