"""Global vectors of cuboid attention in integers (Earthformer §3.2), beside `cuboid_integer.py`.

    g' = NORM(g);  [k | v | q] = W g' + b       int8, k and v in the scales of the tokens' k and v; another three for
                                                what global vectors see of each other, where that is projected apart

Tokens attend to their cuboid and to k, v of the global vectors in one softmax. Global vectors attend to all tokens
(and to themselves) by parts, since no engine holds their logits at once. Tokens come in leaves, some cuboids each:

    S = RESCALE(q · k of the leaf)      P = SOFTMAX(S)      o = RESCALE(P · v) int8      L = LOGSUM(S) int16

L is the logarithm of the sum of exponentials in units of S. Parts are joined in groups of leaves and then all groups,
by the same rule: with weights SOFTMAX(L of the parts), o' = RESCALE(Σ weight × o), L' = LOGSUM(L of the parts).
Exactly, this is the softmax over all; in integers the order of joining belongs to the definition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .cuboid_integer import (
    LARGEST_LOGIT,
    LEAST_LOGIT,
    Exponential,
    IntegerLinear,
    IntegerNorm,
    Ints,
    Scale,
    heads_of,
    merged,
    to_int8,
)
from .reference import rescale

Groups = Sequence[Sequence[Sequence[int]]]  # groups of leaves of cuboids


@dataclass(frozen=True)
class IntegerGlobals:
    """`project` makes [k | v | q] of the normalised global vectors; `own`: they see each other."""

    input_zero: int
    norm: IntegerNorm
    project: IntegerLinear
    logits: Scale
    exponential: Exponential
    log: Scale
    attend: Scale
    join: Scale
    out: IntegerLinear | None
    own: bool

    def parts(self, g: Ints, heads: int) -> list[Ints]:
        """k, v and q of global vectors (K, C), each (heads, K, d), and those among themselves where they differ."""
        projected = self.project(self.norm(g), self.norm.zero_point)
        count = self.project.outputs // g.shape[-1]
        return [heads_of(part, heads) for part in np.split(projected, count, axis=-1)]

    def update(self, parts: Sequence[Ints], tokens: tuple[Ints, Ints], hidden: Ints, groups: Groups) -> Ints:
        """New global vectors (K, C'). `tokens` are k and v (cuboids, heads, volume, d); `hidden` are addends of the
        logits (cuboids, volume)."""
        k, v, q = parts[-3:]
        joined = [self._join([self._leaf(parts[2], tokens, hidden, leaf) for leaf in group]) for group in groups]
        if self.own:
            joined.append(self._attend(q @ k.swapaxes(-1, -2), v))
        attended = merged(self._join(joined)[0])
        return attended if self.out is None else self.out(attended, 0)

    def _leaf(self, q: Ints, tokens: tuple[Ints, Ints], hidden: Ints, leaf: Sequence[int]) -> tuple[Ints, Ints]:
        keys, values = (np.concatenate(list(part[list(leaf)]), axis=1) for part in tokens)
        return self._attend(q @ keys.swapaxes(-1, -2) + hidden[list(leaf)].reshape(-1), values)

    def _attend(self, sums: Ints, values: Ints) -> tuple[Ints, Ints]:
        """o (heads, K, d) and L (heads, K) of some keys."""
        logits = np.clip(rescale(sums, *self.logits), LEAST_LOGIT, LARGEST_LOGIT)
        return to_int8(rescale(self.exponential.shares(logits) @ values, *self.attend)), self._log_sum(logits)

    def _join(self, parts: Sequence[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
        logs = np.stack([log for _, log in parts], -1)  # (heads, K, parts)
        values = np.stack([o for o, _ in parts], -2)  # (heads, K, parts, d)
        weighted = (self.exponential.shares(logs)[..., None, :] @ values)[..., 0, :]
        return to_int8(rescale(weighted, *self.join)), self._log_sum(logs)

    def _log_sum(self, logits: Ints) -> Ints:
        total = self.exponential(logits).sum(-1)
        raised = np.array([_log2(max(1, int(value))) for value in total.flat]).reshape(total.shape) - 15 * 2**15
        found = logits.max(-1) + rescale(raised, *self.log)
        return np.where(total > 0, np.clip(found, LEAST_LOGIT + 1, LARGEST_LOGIT), LEAST_LOGIT)


def _log2(value: int) -> int:
    """LOGSUM's logarithm with 15 fraction bits."""
    whole = value.bit_length() - 1
    mantissa, found = value << (30 - whole), whole
    for _ in range(15):
        mantissa = (mantissa * mantissa) >> 30
        found = 2 * found + (mantissa >> 31)
        mantissa >>= mantissa >> 31
    return found
