"""Scales for cuboid attention: from matrices in float and samples of the input to the integers of the layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..common.errors import UnsupportedError
from .cuboid_global_integer import IntegerGlobals
from .cuboid_integer import Exponential, IntegerAttention, IntegerLinear, IntegerNorm, Scale
from .cuboid_parameters import Activations, CuboidParameters, Floats, LayerNorm, Projection, attention
from .rescale import rescale_operands

_LOGIT_STEPS = 30000  # of int16 for the largest calibrated logit: the rest is headroom
_NORM_BITS = 20  # fraction bits of a normalised element, of which 8 remain when its bias is added
_OUTPUT_BITS = 8
_ONE = 2**15
_HIDDEN_LOGIT = -(2**18)  # far below the least logit of int16, far above the least RESCALE result
_LARGEST_ADDEND = 2**29
_SHARED = "share the tokens' queries, keys and values (separate_global_qkv=False)"


@dataclass(frozen=True, slots=True)
class Quantised:
    """A layer in integers, with the scales of its input and output."""

    layer: IntegerAttention
    input_scale: float
    output_scale: float
    output_zero: int
    global_input: tuple[float, int] = (1.0, 0)
    global_output: tuple[float, int] = (1.0, 0)


def quantise(p: CuboidParameters, samples: Sequence[Floats], vectors: Sequence[Floats] = ()) -> Quantised:
    """The layer in integers, with scales that cover what `samples` (T, H, W, C), and with each of them global
    `vectors` (K, C), show of every intermediate.

    Raises:
        UnsupportedError: padding or global vectors that the integer form does not have.
    """
    if p.cuboids.padding == "nearest":
        raise UnsupportedError("padding 'nearest' moves every token and is not run by the engine")
    if not samples:
        raise UnsupportedError("scales need at least one sample")
    if (p.globals is None) == bool(vectors) or len(vectors) not in (0, len(samples)):
        raise UnsupportedError(f"{len(vectors)} samples of global vectors for {len(samples)} of the tensor")
    seen = [attention(p, *pair) for pair in (zip(samples, vectors, strict=True) if vectors else zip(samples))]
    x_scale, x_zero = _affine(samples)
    y_scale, y_zero = _affine([a.normed for a in seen])
    q_scale, k_scale, v_scale = (_symmetric([part for a in seen for part in _projected(p, a, n)]) for n in range(3))
    o_scale, o_zero = _affine([a.attended for a in seen]) if p.out is None else (_symmetric_of(seen), 0)
    out_scale, out_zero = (o_scale, o_zero) if p.out is None else _affine([a.output for a in seen])
    product = q_scale * k_scale * p.scale
    logit_scale = max(1e-6, _largest([a.logits for a in seen])) / _LOGIT_STEPS
    token = _joined([
        linear(part, y_scale, scale) for part, scale in ((p.query, q_scale), (p.key, k_scale), (p.value, v_scale))
    ])  # fmt: skip
    layer = IntegerAttention(
        cuboids=p.cuboids,
        heads=p.heads,
        input_zero=x_zero,
        norm=norm(p.norm, x_scale, (y_scale, y_zero)),
        token=token,
        bias=None if p.bias is None else _bias(p.bias, product),
        hidden=_hidden(logit_scale / product),
        logits=rescale_operands(product / logit_scale),
        exponential=Exponential.of(logit_scale),
        attend=scale16(v_scale / o_scale / _ONE),
        attended_zero=o_zero,
        out=None if p.out is None else linear(p.out, o_scale, out_scale, out_zero),
    )
    if p.globals is None:
        return Quantised(layer, x_scale, out_scale, out_zero)
    found, scales = quantise_globals(p, seen, vectors, (k_scale, v_scale))
    return Quantised(replace(layer, globals=found), x_scale, out_scale, out_zero, *scales)


def quantise_globals(
    p: CuboidParameters, seen: Sequence[Activations], vectors: Sequence[Floats], token_scales: tuple[float, float]
) -> tuple[IntegerGlobals, tuple[tuple[float, int], tuple[float, int]]]:
    """The part of the global vectors, and scale and zero point of their input and output.

    Raises:
        UnsupportedError: they have projections of tokens, or among themselves, of their own.
    """
    t = p.globals
    assert t is not None
    shared = t.l2g_query.equals(p.query) and t.key.equals(p.key) and t.value.equals(p.value)
    if not shared or (
        t.own and not all(a.equals(b) for a, b in zip(t.own, (t.query, t.l2g_key, t.l2g_value), strict=True))
    ):
        raise UnsupportedError("global vectors with separate projections have no integer form", hint=_SHARED)
    k_scale, v_scale = token_scales
    g, normed = _affine(vectors), _affine([_given(a.global_normed) for a in seen])
    q_scale = _symmetric([t.query(_given(a.global_normed)) for a in seen])
    # Sums of exponentials exceed the largest logit by up to the logarithm of the number of keys.
    count = p.cuboids.count * p.cuboids.volume + len(vectors[0])
    unit = (max(1e-6, _largest([_given(a.global_logits) for a in seen])) + math.log(count)) / _LOGIT_STEPS
    o_scale = _symmetric([_given(a.global_attended) for a in seen])
    parts = (linear(t.l2g_key, normed[0], k_scale), linear(t.l2g_value, normed[0], v_scale))
    output = _affine([_given(a.global_output) for a in seen]) if t.out else (o_scale, 0)
    found = IntegerGlobals(
        input_zero=g[1],
        norm=norm(t.norm, g[0], normed),
        project=_joined([*parts, linear(t.query, normed[0], q_scale)]),
        logits=rescale_operands(q_scale * k_scale * p.scale / unit),
        exponential=Exponential.of(unit),
        log=rescale_operands(math.log(2) / _ONE / unit),
        attend=scale16(v_scale / o_scale / _ONE),
        join=scale16(1 / _ONE),
        out=linear(t.out, o_scale, *output) if t.out else None,
        own=t.own is not None,
    )
    return found, (g, output)


def _projected(p: CuboidParameters, a: Activations, number: int) -> list[Floats]:
    """Queries, keys or values: of the tokens, and of global vectors where they share the scale."""
    if p.globals is None or number == 0:
        return [a.values[number]]
    far = p.globals.l2g_key if number == 1 else p.globals.l2g_value
    return [a.values[number], far(_given(a.global_normed))]


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


def _hidden(products_per_step: float) -> int:
    """The addend that brings any logit to the least value of its type."""
    found = round(_HIDDEN_LOGIT * products_per_step)
    if -found > _LARGEST_ADDEND:
        raise UnsupportedError("logits are too large beside the products of queries and keys to hide a key")
    return found


def _symmetric_of(seen: Sequence[Activations]) -> float:
    return _symmetric([a.attended for a in seen])


def _largest(samples: Sequence[Floats]) -> float:
    return max(float(np.abs(sample).max()) for sample in samples)


def _symmetric(samples: Sequence[Floats]) -> float:
    return max(_largest(samples), 1e-6) / 127


def _affine(samples: Sequence[Floats]) -> tuple[float, int]:
    low = min(0.0, min(float(sample.min()) for sample in samples))
    high = max(0.0, max(float(sample.max()) for sample in samples))
    scale = max(high - low, 1e-6) / 255
    return scale, int(np.clip(round(-128 - low / scale), -128, 127))
