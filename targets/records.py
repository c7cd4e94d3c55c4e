"""Weight records: bias, scale and weights of every output channel, as CONV finds them in SRAM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common.errors import ProgramFault
from .elements import LIMITS, load_elements
from .isa import RECORD_HEADER_BYTES, DType
from .numerics import INT48_MAX, Stage, check_scales
from .numerics_float import FloatStage


@dataclass(frozen=True, slots=True)
class Records:
    """Weights (channels, taps × inputs) and the stage of every channel of one instruction."""

    weights: NDArray[Any]
    stage: Stage | FloatStage

    def bound(self, f: Mapping[str, int]) -> int:
        """Largest magnitude that any partial sum of integers can reach; 0 for floats, which have no use for it."""
        if isinstance(self.stage, FloatStage):
            return 0
        low, high = LIMITS[DType(f["in_type"])]
        largest = int(np.abs(self.weights.astype(np.int32)).sum(axis=1).max())
        return largest * max(high - f["in_zp"], f["in_zp"] - low)


def parse_records(raw: NDArray[np.int8], first_channel: int, f: Mapping[str, int]) -> Records:
    """The records in `raw` (channels, bytes) of an instruction with fields `f`; `isa` has their form."""
    head, body = np.ascontiguousarray(raw[:, :RECORD_HEADER_BYTES]), raw[:, RECORD_HEADER_BYTES:]
    prefix = "conv" if "conv_zp" in f else "act"
    kind = DType(f["in_type"])
    if kind is DType.BF16:
        return Records(load_elements(body, kind), FloatStage.of(f, prefix, _float_bias(head, first_channel)))
    if kind is DType.INT16:
        bias = head[:, :8].copy().view("<i8")[:, 0]
        multiplier, shift = head[:, 8:].copy().view("<i2").astype(np.int64).T
        _check_bias(bias, first_channel)
        largest = {"accumulator_max": INT48_MAX}
    else:
        bias, multiplier, shift = head.view("<i4").astype(np.int64).T
        largest = {}
    check_scales(multiplier, shift, first_channel)
    zero_point = f["conv_zp"] if prefix == "conv" else f["out_zp"]
    low, high = f[f"{prefix}_min"], f[f"{prefix}_max"]
    return Records(body, Stage(bias, multiplier, shift, zero_point, low, high, DType(f["out_type"]), **largest))


def _float_bias(head: NDArray[np.int8], first_channel: int) -> NDArray[np.float32]:
    if head[:, 4:].any():
        k = int(np.argmax(head[:, 4:].any(axis=1)))
        raise ProgramFault(f"channel {first_channel + k} has no BF16 record", hint="were the weights loaded?")
    return head[:, :4].copy().view("<f4")[:, 0]


def _check_bias(bias: NDArray[np.int64], first_channel: int) -> None:
    wrong = (bias > INT48_MAX) | (bias < -INT48_MAX - 1)
    if wrong.any():
        k = int(np.argmax(wrong))
        raise ProgramFault(f"channel {first_channel + k} has bias {bias[k]}, beyond 48 bits")
