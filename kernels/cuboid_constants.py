"""The constants of cuboid attention as the bytes that its program loads."""

from __future__ import annotations

import numpy as np

from ..targets.elements import narrowed
from ..targets.isa import RECORD_HEADER_BYTES
from .cuboid_float import FloatAttention, FloatLinear
from .cuboid_global_integer import IntegerGlobals
from .cuboid_integer import Exponential, IntegerAttention, IntegerLinear
from .cuboid_op import CuboidAttention, score_masks
from .kernel import StageParams


def constant_blob(op: CuboidAttention, layer: IntegerAttention) -> bytes:
    """All sections of the operator's constants, each at its offset."""
    blob = bytearray(op.constant_bytes)
    parts = {
        "token": _records(layer.token, op.record_pitch),
        "norm": layer.norm.records.astype("<i4").tobytes(),
        "exponential": _tables(layer.exponential),
        "scores": _scores(op, layer) if op.score_tables else b"",
        "out": b"" if layer.out is None else _records(layer.out, op.record_pitch),
    }
    if layer.globals is not None:
        parts["global_norm"] = layer.globals.norm.records.astype("<i4").tobytes()
        parts["global_exponential"] = _tables(layer.globals.exponential)
        parts["global_hidden"] = _hidden(op, layer) if op.hidden_tables else b""
    sections = op.sections()
    for name, data in parts.items():
        start, size = sections[name]
        assert len(data) == size, f"section {name} has {len(data)} bytes, not {size}"
        blob[start : start + size] = data
    for number, chunk in enumerate(_chunks(op, layer.globals) if layer.globals else ()):
        start = op.resident_bytes + number * op.chunk_bytes
        blob[start : start + len(chunk)] = chunk
    return bytes(blob)


def _chunks(op: CuboidAttention, g: IntegerGlobals) -> list[bytes]:
    """Keys, values, queries and the output of global vectors."""
    rows = _records(g.project, op.record_pitch)
    size = op.record_pitch * op.channels
    found = [rows[start : start + size] for start in range(0, len(rows), size)]
    return found if g.out is None else [*found, _records(g.out, op.record_pitch)]


def float_blob(op: CuboidAttention, layer: FloatAttention) -> bytes:
    """The same of a layer in bf16."""
    blob, volume, sections = bytearray(op.constant_bytes), op.cuboids.volume, op.sections()
    norm = np.stack([layer.beta, layer.gamma, np.zeros_like(layer.beta)], axis=1)
    parts = {"norm": norm.astype("<f4").tobytes(), "token": _float_records(layer.token, op.record_pitch)}
    if op.score_tables:
        masks = [np.frombuffer(raw, np.bool_).reshape(volume, volume) for raw in score_masks(op)]
        bias = np.zeros((op.heads, volume, volume), np.float32) if layer.bias is None else layer.bias
        tables = np.stack([np.where(mask, bias, np.float32(-np.inf)) for mask in masks])
        parts["scores"] = tables.astype("<f4").tobytes()
    if layer.out is not None:
        parts["out"] = _float_records(layer.out, op.record_pitch)
    for name, data in parts.items():
        start, size = sections[name]
        assert len(data) == size, f"section {name} has {len(data)} bytes, not {size}"
        blob[start : start + size] = data
    return bytes(blob)


def _float_records(linear: FloatLinear, pitch: int) -> bytes:
    table = np.zeros((len(linear.bias), pitch), np.uint8)
    table[:, :4] = linear.bias.astype("<f4")[:, None].view(np.uint8)
    weights = narrowed(linear.weights).astype("<u2").view(np.uint8)
    table[:, RECORD_HEADER_BYTES : RECORD_HEADER_BYTES + weights.shape[1]] = weights
    return table.tobytes()


def float_stages() -> tuple[StageParams, ...]:
    """What a program in bf16 needs beside the constants: nothing is scaled."""
    return (StageParams(),) * 5


def stage_params(layer: IntegerAttention) -> tuple[StageParams, ...]:
    """What the program needs beside the constants: of the normalisation, of queries, keys and values, of the logits,
    of the values' product and of the projection."""
    out = StageParams() if layer.out is None else StageParams(layer.out.zero_point)
    found = (
        StageParams(layer.norm.zero_point),
        StageParams(layer.token.zero_point),
        StageParams(0, rescale=layer.logits),
        StageParams(layer.attended_zero, rescale=layer.attend),
        out,
    )
    return found if layer.globals is None else found + _global_stages(layer.globals)


def _global_stages(g: IntegerGlobals) -> tuple[StageParams, ...]:
    """The same of global vectors: normalisation, projections, logits, logarithms, values' product, joining, output."""
    return (
        StageParams(g.norm.zero_point),
        StageParams(g.project.zero_point),
        StageParams(0, rescale=g.logits),
        StageParams(0, rescale=g.log),
        StageParams(0, rescale=g.attend),
        StageParams(0, rescale=g.join),
        StageParams() if g.out is None else StageParams(g.out.zero_point),
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
    tables = np.stack([np.where(mask, bias, layer.hidden) for mask in masks])
    wide = np.concatenate([tables, np.zeros((*tables.shape[:-1], op.global_vectors), np.int64)], axis=-1)
    return wide.astype("<i4").tobytes()


def _hidden(op: CuboidAttention, layer: IntegerAttention) -> bytes:
    """Addends for logits of global queries, one row for each mask: a token sees itself unless it is padding."""
    masks = [np.frombuffer(raw, np.bool_).reshape(op.cuboids.volume, -1) for raw in score_masks(op)]
    return np.stack([np.where(np.diagonal(mask), 0, layer.hidden) for mask in masks]).astype("<i4").tobytes()


def _tables(exponential: Exponential) -> bytes:
    return np.concatenate([exponential.coarse, exponential.fine]).astype("<i2").tobytes()


def idle_stages() -> tuple[StageParams, ...]:
    """Stages with a meaning for programs whose results do not matter."""
    narrow = StageParams(rescale=(2**14, 15))
    plain = StageParams()
    return (plain, plain, plain, narrow, plain, plain, plain, plain, plain, narrow, narrow, plain)
