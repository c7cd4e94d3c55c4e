"""Cuboid attention in bf16: what the engine computes, in float32 operations of a fixed order.

    y = NORM(x);  [q | k | v] = W y + b          the scale of the logits is part of W and b of the queries
    S = q · k + B;  P = SOFTMAX(S);  o = P · v;  out = W' o + b'

Every arrow ends with one rounding to bf16, as `reference_bf16.py` spells out; B is float32, −∞ where a key is hidden.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import reference_functions_bf16 as functions
from .cuboid_geometry import Cuboids
from .cuboid_parameters import CuboidParameters, Projection
from .function_ops import Norm
from .reference_bf16 import Real, finish, to_bf16

_NO_CLAMP = (float("-inf"), float("inf"))


@dataclass(frozen=True)
class FloatLinear:
    """Weights (outputs, inputs) that bf16 holds, and a float32 bias."""

    weights: Real
    bias: Real

    @classmethod
    def of(cls, *parts: Projection) -> FloatLinear:
        weights = np.concatenate([part.weight for part in parts])
        return cls(to_bf16(weights), np.concatenate([part.bias for part in parts]).astype(np.float32))

    def __call__(self, x: Real) -> Real:
        total: Real = np.zeros((*x.shape[:-1], len(self.bias)), dtype=np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            for channel in range(x.shape[-1]):
                total = np.add(total, x[..., channel, None] * self.weights[:, channel], dtype=np.float32)
            return finish(total + self.bias, _NO_CLAMP)


@dataclass(frozen=True)
class FloatAttention:
    """One layer; `token` makes [q | k | v], `bias` is (heads, volume, volume)."""

    cuboids: Cuboids
    heads: int
    gamma: Real
    beta: Real
    epsilon: float
    token: FloatLinear
    bias: Real | None
    out: FloatLinear | None

    @classmethod
    def of(cls, p: CuboidParameters) -> FloatAttention:
        """The layer without global vectors; weights are rounded to bf16."""
        query = Projection(p.query.weight * p.scale, p.query.bias * p.scale)
        return cls(
            cuboids=p.cuboids,
            heads=p.heads,
            gamma=p.norm.gamma.astype(np.float32),
            beta=p.norm.beta.astype(np.float32),
            epsilon=p.norm.epsilon,
            token=FloatLinear.of(query, p.key, p.value),
            bias=None if p.bias is None else p.bias.astype(np.float32),
            out=None if p.out is None else FloatLinear.of(p.out),
        )

    def __call__(self, x: Real) -> Real:
        """(T, H, W, C) of values that bf16 holds → the same."""
        q, k, v = (_heads_of(part, self.heads) for part in np.split(self.token(self.normed(x)), 3, axis=-1))
        logits = _product(q, k, self.score_bias())
        o = _merged(_product(_softmax(logits), v.swapaxes(-1, -2), None))
        tokens = o if self.out is None else self.out(o)
        return tokens.reshape(-1, tokens.shape[-1])[self.cuboids.scattered].reshape(x.shape)

    def normed(self, x: Real) -> Real:
        """Normalised tokens in cuboid order, zeros in the padding."""
        rows = x.reshape(1, 1, -1, x.shape[-1])
        op = Norm((1, rows.shape[2], rows.shape[3]))
        y: Real = functions.norm(rows, op, self.epsilon, self.gamma, self.beta, _NO_CLAMP)[0, 0]
        index = self.cuboids.gathered
        tokens: Real = y[index]
        tokens[index < 0] = 0
        return tokens

    def score_bias(self) -> Real:
        """What is added to the logits of every cuboid, (cuboids or 1, heads or 1, volume, volume)."""
        volume = self.cuboids.volume
        bias: Real = np.zeros((1, volume, volume), np.float32) if self.bias is None else self.bias
        mask = self.cuboids.mask
        if mask.all():
            return bias[None]
        found = np.array(np.broadcast_to(bias, (len(mask), *bias.shape)), np.float32)
        found[np.broadcast_to(~mask[:, None], found.shape)] = -np.inf
        return found


def _heads_of(x: Real, heads: int) -> Real:
    """(…, N, heads × d) → (…, heads, N, d)."""
    return x.reshape(*x.shape[:-1], heads, -1).swapaxes(-2, -3)


def _merged(x: Real) -> Real:
    x = x.swapaxes(-2, -3)
    return x.reshape(*x.shape[:-2], -1)


def _product(a: Real, b: Real, bias: Real | None) -> Real:
    """(…, m, k) by (…, n, k), k ascending from +0, then the bias."""
    total: Real = np.zeros((*a.shape[:-1], b.shape[-2]), dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for k in range(a.shape[-1]):
            total = np.add(total, a[..., k, None] * b[..., None, :, k], dtype=np.float32)
        return finish(total if bias is None else total + bias, _NO_CLAMP)


def _softmax(logits: Real) -> Real:
    """Shares over the last axis; a row in which everything is hidden gets zeros."""
    hidden = np.isneginf(logits).all(-1)
    shown: Real = logits.copy()
    shown[hidden] = 0
    shares: Real = functions.softmax(shown, _NO_CLAMP)
    shares[hidden] = 0
    return shares
