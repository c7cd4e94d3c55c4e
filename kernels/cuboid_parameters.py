"""One cuboid-attention layer as values: the decomposition and every matrix, and what they mean in float64.

Torch modules and ONNX graphs both reduce to this; quantisation starts from it. Heads are in the order
[head][channel of the head] along every projection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .cuboid_geometry import Cuboids

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class LayerNorm:
    gamma: Floats
    beta: Floats
    epsilon: float = 1e-5

    def __call__(self, x: Floats) -> Floats:
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + self.epsilon) * self.gamma + self.beta


@dataclass(frozen=True)
class Projection:
    """y = weight · x + bias; `weight` is (outputs, inputs)."""

    weight: Floats
    bias: Floats

    def __call__(self, x: Floats) -> Floats:
        return x @ self.weight.T + self.bias

    def equals(self, other: Projection) -> bool:
        return np.array_equal(self.weight, other.weight) and np.array_equal(self.bias, other.bias)


@dataclass(frozen=True)
class GlobalParameters:
    """Global vectors (Earthformer §3.2): `l2g_*` is what tokens read of them, `query` with `key` and `value` what they
    read of the tokens, `own` query, key and value among themselves (None: they do not see each other)."""

    norm: LayerNorm
    l2g_query: Projection
    l2g_key: Projection
    l2g_value: Projection
    query: Projection
    key: Projection
    value: Projection
    own: tuple[Projection, Projection, Projection] | None
    out: Projection | None


@dataclass(frozen=True)
class CuboidParameters:
    """`bias` is (heads, volume, volume) or None; `out` is None without a final projection."""

    cuboids: Cuboids
    heads: int
    scale: float
    norm: LayerNorm
    query: Projection
    key: Projection
    value: Projection
    bias: Floats | None
    out: Projection | None
    globals: GlobalParameters | None = None

    @property
    def channels(self) -> int:
        return self.query.weight.shape[1]


@dataclass(frozen=True)
class Activations:
    """Every intermediate of one call, in cuboid order (cuboids, ...); what calibration looks at."""

    normed: Floats
    logits: Floats
    values: tuple[Floats, ...]
    attended: Floats
    output: Floats
    global_normed: Floats | None = None
    global_logits: Floats | None = None
    global_attended: Floats | None = None
    global_output: Floats | None = None


def attention(p: CuboidParameters, x: Floats, g: Floats | None = None) -> Activations:
    """The layer in float64 for x (T, H, W, C) and global vectors g (K, C'); `output` is (T, H, W, C)."""
    tokens = _gathered(p.norm(x.astype(np.float64)), p.cuboids)
    q, k, v = (_heads(part(tokens), p.heads) for part in (p.query, p.key, p.value))
    logits = p.scale * q @ k.swapaxes(-1, -2)
    if p.bias is not None:
        logits = logits + p.bias
    mask = p.cuboids.mask[:, None]
    if p.globals is None or g is None:
        attended = _merged(_softmax(logits, mask) @ v)
        return Activations(tokens, logits, (q, k, v), attended, _scattered(_projected(p.out, attended), p.cuboids))
    t = p.globals
    normed = t.norm(g.astype(np.float64))
    gk, gv = (_heads(part(normed), p.heads) for part in (t.l2g_key, t.l2g_value))
    lq = _heads(t.l2g_query(tokens), p.heads)
    joint = np.concatenate([logits, p.scale * lq @ gk.swapaxes(-1, -2)], -1)
    seen = np.concatenate([mask, np.ones((*mask.shape[:-1], len(g)), np.bool_)], -1)
    values = np.concatenate([v, np.broadcast_to(gv, (len(v), *gv.shape))], -2)
    attended = _merged(_softmax(joint, seen) @ values)
    output = _scattered(_projected(p.out, attended), p.cuboids)
    global_logits, global_attended = _global(p, t, tokens, normed)
    updated = _projected(t.out, global_attended)
    return Activations(tokens, joint, (q, k, v), attended, output, normed, global_logits, global_attended, updated)


def _global(p: CuboidParameters, t: GlobalParameters, tokens: Floats, normed: Floats) -> tuple[Floats, Floats]:
    """Logits and results of the global vectors' own attention over all tokens, and over themselves."""
    flat = tokens.reshape(-1, tokens.shape[-1])
    query = _heads(t.query(normed), p.heads)
    logits = p.scale * query @ _heads(t.key(flat), p.heads).swapaxes(-1, -2)
    values = _heads(t.value(flat), p.heads)
    visible = p.cuboids.valid.ravel() if p.cuboids.padding == "ignore" else np.ones(len(flat), np.bool_)
    if t.own is not None:
        own_q, own_k, own_v = (_heads(part(normed), p.heads) for part in t.own)
        logits = np.concatenate([logits, p.scale * own_q @ own_k.swapaxes(-1, -2)], -1)
        values = np.concatenate([values, own_v], -2)
        visible = np.concatenate([visible, np.ones(len(normed), np.bool_)])
    return logits, _merged(_softmax(logits, visible) @ values)


def _gathered(x: Floats, cuboids: Cuboids) -> Floats:
    """(T, H, W, C) → (cuboids, volume, C), zeros in the padding."""
    index = cuboids.gathered
    return np.where(index[..., None] < 0, 0.0, x.reshape(-1, x.shape[-1])[index])


def _scattered(tokens: Floats, cuboids: Cuboids) -> Floats:
    found = tokens.reshape(-1, tokens.shape[-1])[cuboids.scattered]
    return found.reshape(*cuboids.shape, -1)


def _projected(out: Projection | None, x: Floats) -> Floats:
    return x if out is None else out(x)


def _heads(x: Floats, heads: int) -> Floats:
    """(..., N, heads × d) → (..., heads, N, d)."""
    return x.reshape(*x.shape[:-1], heads, -1).swapaxes(-2, -3)


def _merged(x: Floats) -> Floats:
    """(..., heads, N, d) → (..., N, heads × d)."""
    x = x.swapaxes(-2, -3)
    return x.reshape(*x.shape[:-2], -1)


def _softmax(logits: Floats, mask: NDArray[np.bool_]) -> Floats:
    largest = np.where(mask, logits, -np.inf).max(-1, keepdims=True, initial=-1e300)
    e = np.where(mask, np.exp(np.minimum(logits - largest, 0.0)), 0.0)
    return e / np.maximum(e.sum(-1, keepdims=True), 1e-300)
