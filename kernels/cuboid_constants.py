"""The constants of cuboid attention as the bytes that its program loads."""

from __future__ import annotations

import numpy as np

from ..targets.isa import RECORD_HEADER_BYTES
from .cuboid_integer import IntegerAttention, IntegerLinear
from .cuboid_op import CuboidAttention, score_masks
from .kernel import StageParams


def constant_blob(op: CuboidAttention, layer: IntegerAttention) -> bytes:
    """All sections of the operator's constants, each at its offset."""
    blob = bytearray(op.constant_bytes)
    parts = {
        "token": _records(layer.token, op.record_pitch),
        "norm": layer.norm.records.astype("<i4").tobytes(),
        "exponential": np.concatenate([layer.exponential.coarse, layer.exponential.fine]).astype("<i2").tobytes(),
        "scores": _scores(op, layer) if op.score_tables else b"",
        "out": b"" if layer.out is None else _records(layer.out, op.record_pitch),
    }
    sections = op.sections()
    for name, data in parts.items():
        start, size = sections[name]
        assert len(data) == size, f"section {name} has {len(data)} bytes, not {size}"
        blob[start : start + size] = data
    return bytes(blob)


def stage_params(layer: IntegerAttention) -> tuple[StageParams, ...]:
    """What the program needs beside the constants: of the normalisation, of queries, keys and values, of the logits,
    of the values' product and of the projection."""
    out = StageParams() if layer.out is None else StageParams(layer.out.zero_point)
    return (
        StageParams(layer.norm.zero_point),
        StageParams(layer.token.zero_point),
        StageParams(0, rescale=layer.logits),
        StageParams(layer.attended_zero, rescale=layer.attend),
        out,
    )


def _records(linear: IntegerLinear, pitch: int) -> bytes:
    table = np.zeros((linear.outputs, pitch), np.uint8)
    header = np.stack([linear.bias, linear.multiplier, linear.shift], axis=1).astype("<i4")
    table[:, :RECORD_HEADER_BYTES] = np.ascontiguousarray(header).view(np.uint8)
    weights = np.ascontiguousarray(linear.weights).view(np.uint8)
    table[:, RECORD_HEADER_BYTES : RECORD_HEADER_BYTES + weights.shape[1]] = weights
    return table.tobytes()


def _scores(op: CuboidAttention, layer: IntegerAttention) -> bytes:
    """One (heads, volume, volume) table of addends for each mask."""
    volume = op.cuboids.volume
    bias = np.zeros((op.heads, volume, volume), np.int64) if layer.bias is None else layer.bias.astype(np.int64)
    masks = [np.frombuffer(raw, np.bool_).reshape(volume, volume) for raw in score_masks(op)]
    return np.stack([np.where(mask, bias, layer.hidden) for mask in masks]).astype("<i4").tobytes()


def idle_stages() -> tuple[StageParams, ...]:
    """Stages with a meaning for programs whose results do not matter."""
    return (StageParams(), StageParams(), StageParams(), StageParams(rescale=(2**14, 15)), StageParams())
