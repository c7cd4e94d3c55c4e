"""Cuboid attention in integers: what the engine computes, spelled out with NumPy and Python integers.

The meaning of a quantised layer, independent of the kernel, of tiles and of the emulator:

    y = NORM(x)                         int8, padding tokens are the zero point of y
    [q | k | v] = W y + b               int8, zero point 0, one scale per output channel
    S = RESCALE(q · k + B)              int16; B is int32 in the scale of the products; pairs that do not see each
                                        other have an addend that saturates S
    P = SOFTMAX(S)                      15 fraction bits; a logit of −32768 takes no part
    o = RESCALE(P · v)                  int8; 16-bit multiplier, as TOSA's scale16
    out = W' o + b'                     int8

SOFTMAX, NORM and RESCALE are those of `targets/isa.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..common.errors import ProgramFault
from .cuboid_geometry import Cuboids
from .reference import rescale

if TYPE_CHECKING:
    from .cuboid_global_integer import Groups, IntegerGlobals
    from .cuboid_parameters import CuboidParameters

Ints: TypeAlias = NDArray[np.int64]
Scale: TypeAlias = tuple[int, int]  # multiplier, shift

LEAST_LOGIT, LARGEST_LOGIT = -(2**15), 2**15 - 1
_INT32 = 2**31
_ONE = 2**15


@dataclass(frozen=True)
class IntegerNorm:
    """NORM: per channel (bias, multiplier, shift), epsilon × n² in squared input steps, and the two zero points."""

    records: Ints  # (channels, 3)
    epsilon: int
    zero_point: int

    def __call__(self, x: Ints) -> Ints:
        """x (..., C) → int8 values; the definition of NORM in `targets/isa.py` for one group of all channels."""
        rows = x.reshape(-1, x.shape[-1]).astype(np.int64)
        return np.stack([self._row(row) for row in rows]).reshape(x.shape)

    def _row(self, x: Ints) -> Ints:
        n, total = len(x), int(x.sum())
        spread = n * int((x * x).sum()) - total * total + self.epsilon
        if spread == 0:
            return self._finish(np.zeros(n, np.int64))
        t = (62 - spread.bit_length()) // 2
        root = isqrt(spread << 2 * t if t >= 0 else spread >> -2 * t)
        inverse = (2**61 + (root >> 1)) // root
        return self._finish(((n * x - total) * inverse + (1 << (40 - t))) >> (41 - t))

    def _finish(self, y: Ints) -> Ints:
        bias, multiplier, shift = self.records.T
        return np.clip(((rescale(y, multiplier, shift) + bias + 128) >> 8) + self.zero_point, -128, 127)


@dataclass(frozen=True)
class IntegerLinear:
    """int8 weights (outputs, inputs), int32 bias, and per output a RESCALE."""

    weights: NDArray[np.int8]
    bias: NDArray[np.int32]
    multiplier: Ints
    shift: Ints
    zero_point: int = 0

    def __call__(self, x: Ints, zero_point: int) -> Ints:
        sums = (x - zero_point) @ self.weights.astype(np.int64).T + self.bias
        _check_int32(sums)
        return to_int8(rescale(sums, self.multiplier, self.shift) + self.zero_point)

    @property
    def outputs(self) -> int:
        return len(self.weights)


@dataclass(frozen=True)
class Exponential:
    """Tables of exp(−256 i s) and exp(−i s) with 15 fraction bits, for logits with scale s."""

    coarse: Ints
    fine: Ints

    @classmethod
    def of(cls, scale: float) -> Exponential:
        steps = np.arange(256) * scale
        coarse, fine = (np.minimum(np.rint(np.exp(-s) * _ONE), _ONE - 1).astype(np.int64) for s in (256 * steps, steps))
        return cls(coarse, fine)

    def __call__(self, logits: Ints) -> Ints:
        """e of every logit against the largest of its row (last axis)."""
        seen = logits != LEAST_LOGIT
        distance = np.where(seen, logits.max(-1, keepdims=True) - logits, 0)
        return np.where(seen, (self.coarse[distance >> 8] * self.fine[distance & 255] + _ONE // 2) >> 15, 0)

    def shares(self, logits: Ints) -> Ints:
        """SOFTMAX to int16 with 15 fraction bits; a share of one saturates."""
        e = self(logits)
        total = e.sum(-1, keepdims=True)
        return np.minimum((e * _ONE + (total >> 1)) // np.maximum(total, 1), LARGEST_LOGIT)


@dataclass(frozen=True)
class IntegerAttention:
    """One quantised layer. `token` makes [q | k | v]; `bias` is (heads, volume, volume) in the products' scale, and
    `hidden` takes its place where a key is not seen. `real` is what was quantised."""

    cuboids: Cuboids
    heads: int
    input_zero: int
    norm: IntegerNorm
    token: IntegerLinear
    bias: NDArray[np.int32] | None
    hidden: int
    logits: Scale
    exponential: Exponential
    attend: Scale
    attended_zero: int
    out: IntegerLinear | None
    globals: IntegerGlobals | None = None
    real: CuboidParameters | None = None

    @property
    def output_zero(self) -> int:
        return self.attended_zero if self.out is None else self.out.zero_point

    def __call__(self, x: NDArray[np.int8]) -> NDArray[np.int8]:
        """int8 (T, H, W, C) → int8 (T, H, W, C), without global vectors."""
        q, k, v = self._tokens(x)
        shares = self.exponential.shares(self._logits(q, k, self.score_bias()))
        return self._finished(shares, v)

    def with_globals(
        self, x: NDArray[np.int8], g: NDArray[np.int8], groups: Groups
    ) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
        """The same, with int8 global vectors (K, C); also their update. `groups`: see `cuboid_global_integer.py`."""
        assert self.globals is not None
        q, k, v, *apart = self._tokens(x)
        far_q, far_k, far_v = apart or (q, k, v)
        parts = self.globals.parts(g.astype(np.int64), self.heads)
        values = np.concatenate([v, np.broadcast_to(parts[1], (len(v), *parts[1].shape))], axis=2)
        near, far = self._logits(q, k, self.score_bias()), self._logits(far_q, parts[0][None], np.zeros(1, np.int64))
        shares = self.exponential.shares(np.concatenate([near, far], axis=-1))
        updated = self.globals.update(parts, (far_k, far_v), self.token_addends(), groups)
        return self._finished(shares, values), updated.astype(np.int8)

    def token_addends(self) -> Ints:
        """What is added to the logits of global queries, (cuboids, volume): ignored padding is hidden."""
        seen = self.cuboids.valid if self.cuboids.padding == "ignore" else np.ones_like(self.cuboids.valid)
        return np.where(seen, 0, self.hidden)

    def _tokens(self, x: NDArray[np.int8]) -> list[Ints]:
        """q, k and v, (cuboids, heads, volume, d), and the same for global vectors where these have their own."""
        y = self._gathered(self.norm(x.astype(np.int64)))
        parts = self.token.outputs // x.shape[-1]
        return [heads_of(p, self.heads) for p in np.split(self.token(y, self.norm.zero_point), parts, axis=-1)]

    def _finished(self, shares: Ints, v: Ints) -> NDArray[np.int8]:
        o = merged(to_int8(rescale(shares @ v, *self.attend) + self.attended_zero))
        return self._scattered(o if self.out is None else self.out(o, self.attended_zero)).astype(np.int8)

    def score_bias(self) -> Ints:
        """B of every cuboid, (cuboids or 1, heads or 1, volume, volume): position bias and mask."""
        volume = self.cuboids.volume
        bias = np.zeros((1, volume, volume), np.int64) if self.bias is None else self.bias.astype(np.int64)
        if self.cuboids.mask.all():
            return bias[None]
        return np.where(self.cuboids.mask[:, None], bias, self.hidden)

    def _logits(self, q: Ints, k: Ints, bias: Ints) -> Ints:
        sums = q @ k.swapaxes(-1, -2) + bias
        _check_int32(sums)
        return np.clip(rescale(sums, *self.logits), LEAST_LOGIT, LARGEST_LOGIT)

    def _gathered(self, y: Ints) -> Ints:
        """(T, H, W, C) → (cuboids, volume, C)."""
        index = self.cuboids.gathered
        return np.where(index[..., None] < 0, self.norm.zero_point, y.reshape(-1, y.shape[-1])[index])

    def _scattered(self, tokens: Ints) -> Ints:
        found = tokens.reshape(-1, tokens.shape[-1])[self.cuboids.scattered]
        return found.reshape(*self.cuboids.shape, -1)


def heads_of(x: Ints, heads: int) -> Ints:
    """(..., N, heads × d) → (..., heads, N, d)."""
    return x.reshape(*x.shape[:-1], heads, -1).swapaxes(-2, -3)


def merged(x: Ints) -> Ints:
    x = x.swapaxes(-2, -3)
    return x.reshape(*x.shape[:-2], -1)


def to_int8(x: Ints) -> Ints:
    return np.clip(x, -128, 127)


def _check_int32(sums: Ints) -> None:
    if max(-int(sums.min()), int(sums.max()) + 1) > _INT32:
        raise ProgramFault(f"accumulator {int(np.abs(sums).max())} leaves int32", hint="use smaller scales")
