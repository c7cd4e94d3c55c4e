"""Workloads of every kind and memory placement, so that no kind is unknown to an estimator.

A search space rarely makes the compiler chain convolutions or spill maps, but one architecture in a
thousand does, and a user's network may. Probes are drawn from a seed, independent of any network.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
from numpy.typing import NDArray

from ..common.errors import UnsupportedError
from ..kernels.cuboid_geometry import Triple
from ..kernels.cuboid_op import CuboidAttention
from ..kernels.function_ops import MAX_GROUP, Mul, Norm, Reduce, Reduction, Resize, Scale, Softmax, Table
from ..kernels.ops import Add, Conv2d, MatMul, Op, Pool2d, Requantise, Shape, Window
from ..kernels.search import candidates
from ..kernels.subgraph import Kind, Memory, Subgraph
from ..targets.spec import EngineSpec
from .measurement import Workload

_CHOICES = 3  # a probe takes one of so many best tilings
_ATTEMPTS = 50
_OUTSIDE = (Memory.DRAM, Memory.HOST)


def probes(spec: EngineSpec, *, per_kind: int, seed: int) -> list[Workload]:
    """`per_kind` workloads of each kind; about half keep their output in SRAM, half store it."""
    found: list[Workload] = []
    for number, kind in enumerate(Kind):
        rng = np.random.default_rng(np.random.SeedSequence((seed, number)))
        drawn = (_probe(rng, kind, spec, stores=bool(i % 2)) for i in range(per_kind))
        found += [workload for workload in drawn if workload is not None]
    return found


def _probe(rng: np.random.Generator, kind: Kind, spec: EngineSpec, *, stores: bool) -> Workload | None:
    """One workload; None when no drawn shape fits this engine, whose networks then cannot contain it either."""
    for _ in range(_ATTEMPTS):
        subgraph = _subgraph(rng, kind, stores=stores)
        try:
            ranked = candidates(subgraph, spec)
        except UnsupportedError:
            continue
        return Workload(subgraph, ranked[int(rng.integers(min(_CHOICES, len(ranked))))].tiling)
    return None


def _subgraph(rng: np.random.Generator, kind: Kind, *, stores: bool) -> Subgraph:
    ops = _OPERATORS[kind](rng)
    source = Memory.SRAM if rng.random() < 0.5 else _OUTSIDE[int(rng.integers(2))]
    target = _OUTSIDE[int(rng.integers(2))] if stores else Memory.SRAM
    if kind is Kind.CUBOID_ATTENTION:  # its maps are always outside, and it stores
        source, target = (_OUTSIDE[int(rng.integers(2))] for _ in range(2))
    second = Memory.SRAM if kind in (Kind.ADD, Kind.MUL, Kind.MATMUL) else None
    if ops[0].input == ops[-1].output and isinstance(ops[-1], Conv2d) and rng.random() < 0.5:
        second = source
    return Subgraph(ops, source, target, second)


def _log_uniform(rng: np.random.Generator, low: int, high: int) -> int:
    return round(float(np.exp(rng.uniform(np.log(low), np.log(high)))))


def _map(rng: np.random.Generator, *, least: int = 1) -> Shape:
    size = _log_uniform(rng, least, 64)
    return size, size, _log_uniform(rng, 1, 192)


def _window(rng: np.random.Generator) -> Window:
    kernel, stride = int(rng.choice([1, 3, 5])), int(rng.choice([1, 1, 2]))
    return Window(kernel, kernel, stride, stride, kernel // 2, kernel // 2)


def _conv(source: Shape, channels: int, window: Window, *, depthwise: bool = False) -> Conv2d:
    height, width, _ = source
    size = (-(-height // window.stride_h), -(-width // window.stride_w))
    return Conv2d(source, (*size, channels), window, depthwise)


def _conv2d(rng: np.random.Generator) -> tuple[Op, ...]:
    source = _map(rng, least=4)
    return (_conv(source, int(rng.choice([source[2], _log_uniform(rng, 4, 192)])), _window(rng)),)


def _depthwise(rng: np.random.Generator) -> tuple[Op, ...]:
    source = _map(rng, least=2)
    return (_conv(source, source[2], _window(rng), depthwise=True),)


def _linear(rng: np.random.Generator) -> tuple[Op, ...]:
    return (_conv((1, 1, _log_uniform(rng, 4, 512)), _log_uniform(rng, 2, 512), Window(1, 1)),)


def _fused(rng: np.random.Generator) -> tuple[Op, ...]:
    source = _map(rng, least=4)
    first = _conv(source, source[2] * int(rng.choice([1, 2, 4])), _window(rng))
    return first, _conv(first.output, source[2], Window(1, 1))


def _inverted(rng: np.random.Generator) -> tuple[Op, ...]:
    source = _map(rng, least=4)
    expand = _conv(source, source[2] * int(rng.choice([2, 3, 6])), Window(1, 1))
    depthwise = _conv(expand.output, expand.output[2], _window(rng), depthwise=True)
    return expand, depthwise, _conv(depthwise.output, source[2], Window(1, 1))


def _add(rng: np.random.Generator) -> tuple[Op, ...]:
    return (Add(_map(rng)),)


def _pool(rng: np.random.Generator) -> tuple[Op, ...]:
    height, width, channels = source = _map(rng, least=2)
    if rng.random() < 0.5:
        return (Pool2d(source, (1, 1, channels), Window(height, width, height, width), maximum=False),)
    return (Pool2d(source, (height // 2, width // 2, channels), Window(2, 2, 2, 2), maximum=bool(rng.random() < 0.5)),)


def _requantise(rng: np.random.Generator) -> tuple[Op, ...]:
    return (Requantise(_map(rng)),)


def _table(rng: np.random.Generator) -> tuple[Op, ...]:
    return (Table(_map(rng)),)


def _matmul(rng: np.random.Generator) -> tuple[Op, ...]:
    """Matrices of attention: a few heads, up to some hundred tokens."""
    groups, rows, columns, depth = (_log_uniform(rng, 1, most) for most in (16, 256, 256, 128))
    transposed = bool(rng.random() < 0.5)
    other = (groups, columns, depth) if transposed else (groups, depth, columns)
    return (MatMul((groups, rows, depth), other, transposed),)


def _mul(rng: np.random.Generator) -> tuple[Op, ...]:
    return (Mul(_map(rng), gate=bool(rng.random() < 0.5)),)


def _softmax(rng: np.random.Generator) -> tuple[Op, ...]:
    return (Softmax(_map(rng)),)


def _norm(rng: np.random.Generator) -> tuple[Op, ...]:
    shape = _map(rng)
    over_map = bool(rng.random() < 0.5 and prod(shape) <= MAX_GROUP)
    return (Norm(shape, int(rng.choice([n for n in (1, 2, 4, 8) if shape[2] % n == 0])), over_map),)


def _reduce(rng: np.random.Generator) -> tuple[Op, ...]:
    source = _map(rng)
    return (Reduce(source, (*source[:2], 1), Reduction.MEAN),)


def _resize(rng: np.random.Generator) -> tuple[Op, ...]:
    height, width, channels = source = _map(rng)
    twice = Scale(4, 2, -1)  # half-pixel centres
    return (Resize(source, (2 * height, 2 * width, channels), twice, twice, bilinear=bool(rng.random() < 0.5)),)


def _cuboid(rng: np.random.Generator) -> tuple[Op, ...]:
    """Axial, shifted or dilated attention of a small clip."""
    size, cuboid = (_triple(rng.integers(1, most, 3)) for most in (17, 9))
    shift = _triple(rng.integers(0, cuboid) * (rng.random(3) < 0.3))
    t, h, w = (str(rng.choice(["l", "l", "d"])) for _ in range(3))
    heads = int(rng.choice([1, 2, 4]))
    channels = heads * _log_uniform(rng, 4, 48)
    padding = str(rng.choice(["zeros", "ignore"]))
    return (CuboidAttention(size, channels, heads, cuboid, shift, (t, h, w), padding),)


def _triple(values: NDArray[np.integer]) -> Triple:
    t, h, w = (int(value) for value in values)
    return t, h, w


_OPERATORS: dict[Kind, Callable[[np.random.Generator], tuple[Op, ...]]] = {
    Kind.CONV2D: _conv2d,
    Kind.DEPTHWISE: _depthwise,
    Kind.LINEAR: _linear,
    Kind.FUSED_BOTTLENECK: _fused,
    Kind.INVERTED_BOTTLENECK: _inverted,
    Kind.ADD: _add,
    Kind.POOL: _pool,
    Kind.REQUANTISE: _requantise,
    Kind.TABLE: _table,
    Kind.MUL: _mul,
    Kind.MATMUL: _matmul,
    Kind.SOFTMAX: _softmax,
    Kind.NORM: _norm,
    Kind.REDUCE: _reduce,
    Kind.RESIZE: _resize,
    Kind.CUBOID_ATTENTION: _cuboid,
}
