"""Field values that an opcode can execute at all, whatever memory holds."""

from __future__ import annotations

from collections.abc import Sequence

from ..common.errors import ProgramFault
from .isa import FIELDS, Opcode, PoolMode, ResizeMode
from .validate import INT32_MAX

MAX_KERNEL = 2**16
MAX_GROUP = 2**16  # elements that a softmax or a normalisation goes over
MAX_RESIZE = 2**11  # numerator of a RESIZE scale (TOSA 1.0, level 8K)
MAX_SEMAPHORE = 2**16  # what a semaphore can count to
_COUNT = (0, INT32_MAX)
_INT8 = (-128, 127)
_KERNEL = (1, MAX_KERNEL)
_POSITIVE = (1, INT32_MAX)
_RANGES: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("count", "semaphore", "count0", "count1", "count2", "count3"), _COUNT),
    **dict.fromkeys(("row_start", "row_count", "row_limit", "col_count"), _COUNT),
    **dict.fromkeys(("chan_start", "chan_count", "chan_limit"), _COUNT),
    **dict.fromkeys(("in_wrap", "b_wrap", "out_wrap", "in_rows", "in_cols", "pad_h", "pad_w"), _COUNT),
    **dict.fromkeys(("stride_h", "stride_w", "channels_in"), _POSITIVE),
    **dict.fromkeys(("kernel_h", "kernel_w"), _KERNEL),
    **dict.fromkeys(("in_zp", "b_zp", "out_zp", "conv_zp", "act_min", "act_max", "conv_min", "conv_max"), _INT8),
    **dict.fromkeys(("multiplier", "a_multiplier", "b_multiplier", "sum_multiplier"), _POSITIVE),
    **dict.fromkeys(("shift", "a_shift", "b_shift", "sum_shift"), (2, 62)),
    "mode": (0, 1),
    "group": (1, MAX_GROUP),
    **dict.fromkeys(("eps_high", "eps_low"), _COUNT),
    **dict.fromkeys(("scale_h_n", "scale_w_n"), (1, MAX_RESIZE)),
    **dict.fromkeys(("scale_h_d", "scale_w_d"), (1, 16 * MAX_RESIZE)),
    **dict.fromkeys(("offset_h", "offset_w"), (-MAX_RESIZE, 16 * MAX_RESIZE)),
}
_CHECKED = {
    opcode: tuple((i, *_RANGES[name]) for i, name in enumerate(names) if name in _RANGES)
    for opcode, names in FIELDS.items()
}
_MAY_KEEP_SCALE = {Opcode.POOL: PoolMode.MAX, Opcode.REDUCE: PoolMode.MAX, Opcode.RESIZE: ResizeMode.NEAREST}
_ORDERED = (("act_min", "act_max"), ("conv_min", "conv_max"))


def check_fields(opcode: Opcode, values: Sequence[int]) -> None:
    """Raises `ProgramFault` naming the field when a value has no meaning (negative count, shift 63, ...)."""
    unscaled = opcode in _MAY_KEEP_SCALE and _keeps_scale(opcode, values)
    for position, low, high in _CHECKED[opcode]:
        if low <= values[position] <= high:
            continue
        name = FIELDS[opcode][position]
        if unscaled and name in ("multiplier", "shift"):
            continue
        raise ProgramFault(f"{name} must be within {low}..{high} in {opcode.name}, got {values[position]}")
    names = FIELDS[opcode]
    for low_name, high_name in _ORDERED:
        if low_name in names and values[names.index(low_name)] > values[names.index(high_name)]:
            raise ProgramFault(f"{low_name} exceeds {high_name} in {opcode.name}")


def _keeps_scale(opcode: Opcode, values: Sequence[int]) -> bool:
    """A maximum or a nearest neighbour without RESCALE has multiplier 0 and any shift."""
    names = FIELDS[opcode]
    return values[names.index("mode")] == _MAY_KEEP_SCALE[opcode] and values[names.index("multiplier")] == 0


def legal_range(field: str) -> tuple[int, int] | None:
    """Smallest and largest value with a meaning, for fields that have fixed ones."""
    return _RANGES.get(field)
