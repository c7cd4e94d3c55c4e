"""Scales for cuboid attention: from matrices in float and samples of the input to the integers of the layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..common.errors import UnsupportedError
from .cuboid_global_integer import IntegerGlobals
from .cuboid_integer import Exponential, IntegerAttention, IntegerLinear, IntegerNorm, Scale
from .cuboid_parameters import Activations, CuboidParameters, Floats, GlobalParameters, LayerNorm, Projection, attention
from .rescale import rescale_operands

_LOGIT_STEPS = 30000  # of int16 for the largest calibrated logit: the rest is headroom
_NORM_BITS = 20  # fraction bits of a normalised element, of which 8 remain when its bias is added
_OUTPUT_BITS = 8
_ONE = 2**15
_HIDDEN_LOGIT = -(2**18)  # far below the least logit of int16, far above the least RESCALE result
_LARGEST_ADDEND = 2**29
_SAME = "global_dim_ratio=1"


INTERMEDIATES = ("input", "normed", "query", "key", "value", "logits", "attended", "output")
GLOBAL_INTERMEDIATES = tuple(f"global_{n}" for n in ("input", "normed", "query", "logits", "attended", "output"))
Span: TypeAlias = tuple[float, float]
Affine: TypeAlias = tuple[float, int]  # scale and zero point


@dataclass(frozen=True, slots=True)
class Quantised:
    """A layer in integers, with the scales of its input and output."""

    layer: IntegerAttention
    input_scale: float
    output_scale: float
    output_zero: int
    global_input: tuple[float, int] = (1.0, 0)
    global_output: tuple[float, int] = (1.0, 0)


@dataclass(frozen=True, slots=True)
class Ranges:
    """Least and largest value of every intermediate that calibration saw, by the names in `INTERMEDIATES`, and for
    layers with `vectors` global vectors by those in `GLOBAL_INTERMEDIATES` too."""

    spans: Mapping[str, Span]
    vectors: int = 0

    @classmethod
    def of(cls, p: CuboidParameters, samples: Sequence[Floats], vectors: Sequence[Floats] = ()) -> Ranges:
        """What `samples` (T, H, W, C), and with each of them global `vectors` (K, C), show.

        Raises:
            UnsupportedError: no samples, or not as many of the global vectors.
        """
        if not samples:
            raise UnsupportedError("scales need at least one sample")
        if (p.globals is None) == bool(vectors) or len(vectors) not in (0, len(samples)):
            raise UnsupportedError(f"{len(vectors)} samples of global vectors for {len(samples)} of the tensor")
        pairs = zip(samples, vectors, strict=True) if vectors else zip(samples)
        found = [_spans(p, attention(p, *pair), *pair) for pair in pairs]
        spans = {
            name: (min(spans[name][0] for spans in found), max(spans[name][1] for spans in found)) for name in found[0]
        }
        return cls(spans, len(vectors[0]) if vectors else 0)

    def affine(self, name: str) -> Affine:
        """Scale and zero point of an int8 tensor."""
        low, high = self.spans[name]
        low, high = min(0.0, low), max(0.0, high)
        scale = max(high - low, 1e-6) / 255
        return scale, int(np.clip(round(-128 - low / scale), -128, 127))

    def largest(self, name: str) -> float:
        return max(1e-6, *(abs(bound) for bound in self.spans[name]))

    def symmetric(self, name: str) -> float:
        """Scale of an int8 tensor with zero point 0."""
        return self.largest(name) / 127


def quantise(p: CuboidParameters, samples: Sequence[Floats], vectors: Sequence[Floats] = ()) -> Quantised:
    """The layer in integers, with scales that cover what `samples` and `vectors` show; see `Ranges.of`."""
    return quantise_ranges(p, Ranges.of(p, samples, vectors))


def quantise_ranges(p: CuboidParameters, r: Ranges, ends: Mapping[str, Affine] | None = None) -> Quantised:
    """The layer in integers; `ends` are scales and zero points of input and output that are given already, by name.

    Raises:
        UnsupportedError: global vectors or scales that the integer form does not have.
    """
    given = ends or {}
    x_scale, x_zero = given.get("input") or r.affine("input")
    y_scale, y_zero = r.affine("normed")
    q_scale, k_scale, v_scale = (r.symmetric(name) for name in ("query", "key", "value"))
    output = given.get("output") or r.affine("output")
    o_scale, o_zero = output if p.out is None else (r.symmetric("attended"), 0)
    product = q_scale * k_scale * p.scale
    logit_scale = r.largest("logits") / _LOGIT_STEPS
    scales = (q_scale, k_scale, v_scale) * 2
    token = _joined([linear(part, y_scale, scale) for part, scale in zip(_token_parts(p), scales, strict=False)])
    layer = IntegerAttention(
        cuboids=p.cuboids,
        heads=p.heads,
        input_zero=x_zero,
        norm=norm(p.norm, x_scale, (y_scale, y_zero)),
        token=token,
        bias=None if p.bias is None else _bias(p.bias, product),
        hidden=_hidden(logit_scale / product) if _hides(p) else 0,
        logits=rescale_operands(product / logit_scale),
        exponential=Exponential.of(logit_scale),
        attend=scale16(v_scale / o_scale / _ONE),
        attended_zero=o_zero,
        out=None if p.out is None else linear(p.out, o_scale, *output),
        real=p,
    )
    if p.globals is None:
        return Quantised(layer, x_scale, *output)
    found, scales = quantise_globals(p, r, given)
    return Quantised(replace(layer, globals=found), x_scale, *output, *scales)


def quantise_globals(
    p: CuboidParameters, r: Ranges, given: Mapping[str, Affine]
) -> tuple[IntegerGlobals, tuple[Affine, Affine]]:
    """The part of the global vectors, and scale and zero point of their input and output.

    Raises:
        UnsupportedError: they have other widths than tokens.
    """
    t = p.globals
    assert t is not None
    if len(t.norm.gamma) != p.channels:
        raise UnsupportedError(
            f"global vectors of {len(t.norm.gamma)} channels beside tokens of {p.channels}", hint=_SAME
        )
    k_scale, v_scale, q_scale = (r.symmetric(name) for name in ("key", "value", "global_query"))
    g, normed = given.get("global_input") or r.affine("global_input"), r.affine("global_normed")
    # Sums of exponentials exceed the largest logit by up to the logarithm of the number of keys.
    count = p.cuboids.count * p.cuboids.volume + r.vectors
    unit = (r.largest("global_logits") + math.log(count)) / _LOGIT_STEPS
    o_scale = r.symmetric("global_attended")
    output = given.get("global_output") or (r.affine("global_output") if t.out else (o_scale, 0))
    if t.out is None and output[1]:
        raise UnsupportedError(f"global vectors without projection have the zero point 0, not {output[1]}")
    o_scale = o_scale if t.out else output[0]
    parts = [linear(part, normed[0], scale) for part, scale in zip(
        _global_parts(p, t), (k_scale, v_scale, q_scale) * 2, strict=False
    )]  # fmt: skip
    found = IntegerGlobals(
        input_zero=g[1],
        norm=norm(t.norm, g[0], normed),
        project=_joined(parts),
        logits=rescale_operands(q_scale * k_scale * p.scale / unit),
        exponential=Exponential.of(unit),
        log=rescale_operands(math.log(2) / _ONE / unit),
        attend=scale16(v_scale / o_scale / _ONE),
        join=scale16(1 / _ONE),
        out=linear(t.out, o_scale, *output) if t.out else None,
        own=t.own is not None,
    )
    return found, (g, output)


def _spans(p: CuboidParameters, a: Activations, x: Floats, g: Floats | None = None) -> dict[str, Span]:
    """Extremes of one call; keys and values are those of global vectors too, since both share a scale."""
    query, key, value = ([part] for part in a.values)
    found = {"input": [x], "normed": [a.normed], "logits": [a.logits], "attended": [a.attended], "output": [a.output]}
    if p.globals is not None and g is not None:
        t, normed = p.globals, _given(a.global_normed)
        tokens, far = [part(a.normed) for part in _token_parts(p)[3:]], [part(normed) for part in _global_parts(p, t)]
        query, key, value = [*query, *tokens[:1]], [*key, *tokens[1:2], *far[::3]], [*value, *tokens[2:], *far[1::3]]
        found |= {
            "global_input": [g], "global_normed": [normed], "global_query": far[2::3],
            "global_logits": [_given(a.global_logits)], "global_attended": [_given(a.global_attended)],
            "global_output": [_given(a.global_output)],
        }  # fmt: skip
    found |= {"query": query, "key": key, "value": value}
    return {
        name: (min(float(v.min()) for v in values), max(float(v.max()) for v in values))
        for name, values in found.items()
    }


def has_separate_projections(p: CuboidParameters) -> bool:
    """Whether tokens and global vectors see each other through other matrices than their own kind."""
    t = p.globals
    if t is None:
        return False
    pairs = [(t.l2g_query, p.query), (t.key, p.key), (t.value, p.value)]
    pairs += zip(t.own, (t.query, t.l2g_key, t.l2g_value), strict=True) if t.own else []
    return not all(a.equals(b) for a, b in pairs)


def _token_parts(p: CuboidParameters) -> list[Projection]:
    """Query, key and value of tokens, and of tokens for global vectors where these are separate."""
    t = p.globals
    apart = [t.l2g_query, t.key, t.value] if t is not None and has_separate_projections(p) else []
    return [p.query, p.key, p.value, *apart]


def _global_parts(p: CuboidParameters, t: GlobalParameters) -> list[Projection]:
    """Key, value and query of global vectors, and among themselves where these are separate."""
    found = [t.l2g_key, t.l2g_value, t.query]
    return [*found, t.own[1], t.own[2], t.own[0]] if t.own and has_separate_projections(p) else found


def _given(value: Floats | None) -> Floats:
    assert value is not None
    return value


def norm(p: LayerNorm, in_scale: float, out: tuple[float, int]) -> IntegerNorm:
    """NORM of integers with scale `in_scale` to int8 with scale and zero point `out`."""
    scale, zero = out
    records = []
    for gamma, beta in zip(p.gamma, p.beta, strict=True):
        multiplier, shift = rescale_operands(max(abs(gamma), 1e-9) / scale * 2.0 ** (_OUTPUT_BITS - _NORM_BITS))
        sign = 0 if gamma == 0 else 1 if gamma > 0 else -1
        records.append((round(beta / scale * 2**_OUTPUT_BITS), sign * multiplier, shift))
    epsilon = round(p.epsilon / in_scale**2 * len(p.gamma) ** 2)
    return IntegerNorm(np.array(records, np.int64), epsilon, zero)


def linear(p: Projection, in_scale: float, out_scale: float, zero_point: int = 0) -> IntegerLinear:
    """int8 weights with one scale per output."""
    scales = np.maximum(np.abs(p.weight).max(1), 1e-9) / 127
    weights = np.rint(p.weight / scales[:, None]).astype(np.int8)
    bias = np.rint(p.bias / (in_scale * scales)).astype(np.int32)
    pairs = np.array([rescale_operands(in_scale * float(s) / out_scale) for s in scales], np.int64)
    return IntegerLinear(weights, bias, pairs[:, 0], pairs[:, 1], zero_point)


def scale16(scale: float) -> Scale:
    """RESCALE operands with a multiplier of 15 bits (TOSA 1.0, RESCALE with scale32 false)."""
    multiplier, shift = rescale_operands(scale)
    rounded = (multiplier + (1 << 15)) >> 16
    return (rounded, shift - 16) if rounded < _ONE else (rounded >> 1, shift - 17)


def _joined(parts: Sequence[IntegerLinear]) -> IntegerLinear:
    weights, bias, multiplier, shift = (
        np.concatenate([getattr(p, name) for p in parts]) for name in ("weights", "bias", "multiplier", "shift")
    )
    return IntegerLinear(weights, bias, multiplier, shift)


def _bias(bias: Floats, scale: float) -> NDArray[np.int32]:
    found = np.rint(bias / scale)
    if np.abs(found).max() >= _LARGEST_ADDEND:
        raise UnsupportedError(f"a position bias of {np.abs(bias).max():g} leaves the range of its integer form")
    return found.astype(np.int32)


def _hides(p: CuboidParameters) -> bool:
    """Whether some query does not see some key."""
    return not p.cuboids.mask.all()


def _hidden(products_per_step: float) -> int:
    """The addend that brings any logit to the least value of its type."""
    found = round(_HIDDEN_LOGIT * products_per_step)
    if -found > _LARGEST_ADDEND:
        raise UnsupportedError("logits are too large beside the products of queries and keys to hide a key")
    return found
