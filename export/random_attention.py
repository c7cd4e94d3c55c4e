"""Random cuboid attention on a map of a random graph: sizes, shifts, strategies, paddings, heads and global vectors."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..common.errors import UnsupportedError
from ..kernels.cuboid_geometry import PADDINGS, Cuboids, Triple
from ..kernels.cuboid_parameters import CuboidParameters, Floats, GlobalParameters, LayerNorm, Projection
from ..kernels.cuboid_quantise import Quantised, Ranges, quantise_ranges
from .cuboid_graph import attention_op
from .graph import Node, Quantisation, Tensor

if TYPE_CHECKING:
    from .random_graphs import GraphBuilder

_LARGEST_VOLUME = 48
_LARGEST_HEAD = 4


def attend(build: GraphBuilder, current: str) -> str:
    """Cuboid attention over map `current`, read as (T, H, W, C) with T × H rows; returns the result's name.

    Now and then with global vectors: another input of the graph, whose update is another output.
    """
    rng, source = build.rng, build.tensors[current]
    rows, width, channels = source.shape
    frames = _divisor(rng, rows)
    cuboids = _cuboids(rng, (frames, rows // frames, width))
    vectors = int(rng.integers(1, 6)) if rng.random() < 0.3 else 0
    p = _parameters(rng, cuboids, channels, own=bool(rng.integers(2)) if vectors else None)
    name = f"attention{len(build.nodes)}"
    try:
        found = _quantised(rng, p, source.quantisation, vectors)
    except UnsupportedError:  # a bias far above the products leaves no room to hide a key
        p = replace(p, bias=None)
        found = _quantised(rng, p, source.quantisation, vectors)
    op = attention_op(p, global_vectors=vectors, leaf=int(rng.integers(1, 5)))
    output = build.tensor(f"{name}:0", source.shape, 1.0)
    scale = Quantisation(found.output_scale, found.output_zero)
    build.tensors[output] = replace(build.tensors[output], quantisation=scale)
    inputs, extra = (current,), ()
    if vectors:
        sides = zip((f"{name}:g", f"{name}:1"), (found.global_input, found.global_output), strict=True)
        for side, ends in sides:
            shape = (1, vectors, channels)
            build.tensors[side] = Tensor(side, shape, Quantisation(*ends), shape[1:], channels_last=True)
        inputs, extra = (current, f"{name}:g"), (f"{name}:1",)
    build.nodes.append(Node(name, op, inputs, output, extra=extra))
    build.constants[name] = found.layer
    return output


def _cuboids(rng: np.random.Generator, size: Triple) -> Cuboids:
    while True:
        cuboid = tuple(int(rng.integers(1, min(extent, 7) + 2)) for extent in size)
        shift = tuple(int(rng.integers(0, extent)) if rng.random() < 0.4 else 0 for extent in cuboid)
        strategy = tuple(str(rng.choice(["l", "l", "d"])) for _ in size)
        found = Cuboids.of(size, _triple(cuboid), _triple(shift), _names(strategy), str(rng.choice(PADDINGS)))
        if found.volume <= _LARGEST_VOLUME:
            return found


def _parameters(rng: np.random.Generator, cuboids: Cuboids, channels: int, own: bool | None) -> CuboidParameters:
    """Matrices that make attention far from uniform; `own` is None without global vectors."""
    heads = _divisor(rng, channels)
    heads = heads if heads <= _LARGEST_HEAD else 1
    q, k, v = (_projection(rng, channels) for _ in range(3))
    projected, biased = rng.random() < 0.7, rng.random() < 0.7
    bias = _normal(rng, 0.5, (heads, cuboids.volume, cuboids.volume)) if biased else None
    out = _projection(rng, channels) if projected else None
    scale = float(channels // heads) ** -0.5
    found = CuboidParameters(cuboids, heads, scale, _norm(rng, channels), q, k, v, bias, out)
    if own is None:
        return found
    gq, gk, gv = (_projection(rng, channels) for _ in range(3))
    far = _projection(rng, channels) if projected else None
    them = (gq, gk, gv) if own else None
    if rng.random() < 0.4:  # projections of their own for what tokens and global vectors see of each other
        q, k, v = (_projection(rng, channels) for _ in range(3))
        them = (_projection(rng, channels), gk, gv) if own else None
    return replace(found, globals=GlobalParameters(_norm(rng, channels), q, gk, gv, gq, k, v, them, far))


def _quantised(rng: np.random.Generator, p: CuboidParameters, source: Quantisation, vectors: int) -> Quantised:
    """Scales from samples that fill the range of the map."""
    stored = rng.integers(-128, 128, (*p.cuboids.shape, p.channels))
    sample: Floats = np.asarray(source.scale * (stored - source.zero_point), np.float64)
    far = [_normal(rng, 1, (vectors, p.channels))] if vectors else []
    return quantise_ranges(p, Ranges.of(p, [sample], far), {"input": (source.scale, source.zero_point)})


def _projection(rng: np.random.Generator, channels: int) -> Projection:
    return Projection(_normal(rng, channels**-0.5, (channels, channels)), _normal(rng, 0.3, (channels,)))


def _norm(rng: np.random.Generator, channels: int) -> LayerNorm:
    return LayerNorm(1 + _normal(rng, 0.3, (channels,)), _normal(rng, 0.3, (channels,)))


def _normal(rng: np.random.Generator, spread: float, shape: tuple[int, ...]) -> Floats:
    return np.asarray(rng.normal(0, spread, shape), np.float64)


def _divisor(rng: np.random.Generator, value: int) -> int:
    return int(rng.choice([d for d in range(1, value + 1) if value % d == 0]))


def _triple(values: tuple[int, ...]) -> Triple:
    t, h, w = values
    return t, h, w


def _names(values: tuple[str, ...]) -> tuple[str, str, str]:
    t, h, w = values
    return t, h, w
