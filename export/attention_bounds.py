"""What cuboid attention in bf16 should give in real numbers, and how far its roundings may take it from there.

Every step takes the error of its operands along and adds its own (`float_rounding.py`): a product of A ± α and B ± β
is off by |A| β + α |B| + α β and by its rounded sums; a share e^l / Σ e^l of logits l ± λ by e^(2 max λ) at most.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..kernels.cuboid_float import FloatAttention, FloatLinear
from ..kernels.cuboid_op import CuboidAttention
from ..kernels.function_ops import Norm
from .float_functions import function_results
from .float_rounding import FLOAT32_UNIT, Bounded, Reals, gamma, rounded
from .functions import float_attention_of
from .graph import Graph, Node, NormConstants

_LEAST = 2.0**-149


def attention_results(graph: Graph, node: Node, op: CuboidAttention, x: Reals) -> Bounded:
    """Results (batch, height, width, channels) of maps that bf16 holds exactly."""
    layer = float_attention_of(graph, node)
    plain = replace(node, clamp=(float("-inf"), float("inf")))
    parts = [_attention(graph, plain, layer, sample.reshape(*op.size, -1)) for sample in x]
    values, errors = (np.stack([getattr(p, name) for p in parts]).reshape(x.shape) for name in ("values", "errors"))
    return Bounded(np.clip(values, *node.clamp), errors)


def _attention(graph: Graph, node: Node, layer: FloatAttention, x: Reals) -> Bounded:
    tokens = _linear(node, _normed(graph, node, layer, x), layer.token)
    q, k, v = (_split(tokens, layer.heads, part) for part in range(3))
    logits = _product(node, q, k, layer.score_bias().astype(np.float64))
    o = _product(node, _shares(node, logits), _turned(v), None)
    merged = _each(o, lambda values: values.swapaxes(-2, -3).reshape(len(values), layer.cuboids.volume, -1))
    out = merged if layer.out is None else _linear(node, merged, layer.out)
    return _each(out, lambda values: values.reshape(-1, values.shape[-1])[layer.cuboids.scattered])


def _normed(graph: Graph, node: Node, layer: FloatAttention, x: Reals) -> Bounded:
    """Tokens in cuboid order; padding is exact."""
    rows = x.reshape(1, 1, -1, x.shape[-1])
    op = Norm((1, rows.shape[2], rows.shape[3]), dtype="bf16")
    held = NormConstants(layer.gamma.astype(np.float64), layer.beta.astype(np.float64), layer.epsilon)
    found = function_results(replace(graph, constants={node.name: held}), node, op, [rows])
    index = layer.cuboids.gathered
    return _each(found, lambda values: np.where(index[..., None] < 0, 0.0, values[0, 0][index]))


def _linear(node: Node, x: Bounded, linear: FloatLinear) -> Bounded:
    weights, bias = linear.weights.astype(np.float64), linear.bias.astype(np.float64)
    carried = x.errors @ np.abs(weights).T
    terms = np.abs(x.values) @ np.abs(weights).T + carried + np.abs(bias)
    return rounded(node, x.values @ weights.T + bias, carried + gamma(weights.shape[1] + 1) * terms)


def _product(node: Node, a: Bounded, b: Bounded, bias: Reals | None) -> Bounded:
    """(…, m, k) by (…, n, k)."""
    left, right = np.abs(a.values), np.abs(b.values).swapaxes(-1, -2)
    far = b.errors.swapaxes(-1, -2)
    carried = left @ far + a.errors @ right + a.errors @ far
    exact, terms = a.values @ b.values.swapaxes(-1, -2), left @ right + carried
    if bias is None:
        return rounded(node, exact, carried + gamma(a.values.shape[-1]) * terms)
    shown = np.where(np.isneginf(bias), 0.0, bias)
    found = rounded(node, exact + shown, carried + gamma(a.values.shape[-1] + 1) * (terms + np.abs(shown)))
    hidden = np.broadcast_to(np.isneginf(bias), exact.shape)
    return Bounded(np.where(hidden, -np.inf, found.values), np.where(hidden, 0.0, found.errors))


def _shares(node: Node, logits: Bounded) -> Bounded:
    """Hidden keys have no share, and nothing where all are hidden."""
    seen = ~np.isneginf(logits.values)
    shown = np.where(seen, logits.values, 0.0)
    largest = np.where(seen, logits.values, -np.inf).max(-1, keepdims=True, initial=-1e300)
    below = np.where(seen, shown - largest, 0.0)
    powers = np.where(seen, np.exp(below), 0.0)
    total = powers.sum(-1, keepdims=True)
    exact = powers / np.maximum(total, 1e-300)
    reach = np.abs(below) + (exact * np.abs(below)).sum(-1, keepdims=True)
    moved = 2 * logits.errors.max(-1, keepdims=True) + 2 * FLOAT32_UNIT * reach
    relative = np.expm1(np.minimum(moved, 700)) + 2 * gamma(exact.shape[-1] + 4)
    errors = np.minimum(relative * exact, 1.0) + np.where(seen, 2 * exact.shape[-1] * _LEAST, 0.0)
    found = rounded(node, exact, errors)
    return Bounded(found.values, np.where(seen, found.errors, 0.0))


def _split(x: Bounded, heads: int, part: int) -> Bounded:
    """Queries, keys or values, (cuboids, heads, volume, d)."""

    def cut(values: Reals) -> Reals:
        own = np.split(values, 3, axis=-1)[part]
        return own.reshape(*own.shape[:-1], heads, -1).swapaxes(-2, -3)

    return _each(x, cut)


def _turned(x: Bounded) -> Bounded:
    return _each(x, lambda values: values.swapaxes(-1, -2))


def _each(x: Bounded, change: Callable[[Reals], Reals]) -> Bounded:
    return Bounded(change(x.values), change(x.errors))
