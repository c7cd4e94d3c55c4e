"""Field values that an opcode can execute at all, whatever memory holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import product

from ..common.errors import ProgramFault
from .elements import INTEGERS, LIMITS, MINUS_INFINITY, PLUS_INFINITY, bits_float
from .isa import FIELDS, TYPE_FIELDS, DType, Opcode, PoolMode, ResizeMode
from .validate import INT32_MAX, INT32_MIN

MAX_KERNEL = 2**16
MAX_GROUP = 2**16  # elements that a softmax or a normalisation goes over
MAX_RESIZE = 2**11  # numerator of a RESIZE scale (TOSA 1.0, level 8K)
MAX_SEMAPHORE = 2**16  # what a semaphore can count to
MAX_SCALE16 = 2**15 - 1  # multipliers of RESCALE for accumulators of 48 bits
_COUNT = (0, INT32_MAX)
_KERNEL = (1, MAX_KERNEL)
_POSITIVE = (1, INT32_MAX)
_ANY = (INT32_MIN, INT32_MAX)
_RANGES: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("count", "semaphore", "count0", "count1", "count2", "count3"), _COUNT),
    **dict.fromkeys(("row_start", "row_count", "row_limit", "col_count"), _COUNT),
    **dict.fromkeys(("chan_start", "chan_count", "chan_limit"), _COUNT),
    **dict.fromkeys(("g0_start", "g0_count", "g0_limit", "g1_count", "m_count", "n_count"), _COUNT),
    **dict.fromkeys(("in_wrap", "b_wrap", "out_wrap", "in_rows", "in_cols", "pad_h", "pad_w"), _COUNT),
    **dict.fromkeys(("stride_h", "stride_w", "channels_in", "k_count"), _POSITIVE),
    **dict.fromkeys(("kernel_h", "kernel_w"), _KERNEL),
    "bias_addr": (-1, INT32_MAX),
    **dict.fromkeys(("size", "packed"), _POSITIVE),
    "mode": (0, 1),
    "group": (1, MAX_GROUP),
    **dict.fromkeys(("eps_high", "eps_low"), _COUNT),
    **dict.fromkeys(("scale_h_n", "scale_w_n"), (1, MAX_RESIZE)),
    **dict.fromkeys(("scale_h_d", "scale_w_d"), (1, 16 * MAX_RESIZE)),
    **dict.fromkeys(("offset_h", "offset_w"), (-MAX_RESIZE, 16 * MAX_RESIZE)),
}
_SCALES = ("multiplier", "a_multiplier", "b_multiplier", "sum_multiplier", "log_multiplier")
_SHIFTS = ("shift", "a_shift", "b_shift", "sum_shift", "log_shift")
_INTEGER = (DType.INT8, DType.INT16)
_CONVERTED = [*product(_INTEGER, _INTEGER), (DType.BF16, DType.BF16)]
_SUMMED = [*product(_INTEGER, repeat=3), (DType.BF16,) * 3]
_ALIKE = [(kind, kind) for kind in (*_INTEGER, DType.BF16)]
_MULTIPLIED = [
    *product(_INTEGER, (DType.INT8,), (*_INTEGER, DType.INT32)),
    (DType.BF16, DType.BF16, DType.BF16),
]
TYPES: dict[Opcode, frozenset[tuple[DType, ...]]] = {
    Opcode.CONV: frozenset(_CONVERTED),
    Opcode.CONV_ADD: frozenset((a, b, out) for (a, out), b in product(_CONVERTED, _INTEGER) if a in _INTEGER)
    | {(DType.BF16,) * 3},
    Opcode.MATMUL: frozenset(_MULTIPLIED),
    Opcode.ADD: frozenset(_SUMMED),
    Opcode.POOL: frozenset(_CONVERTED),
    Opcode.REQUANTISE: frozenset(product((*_INTEGER, DType.BF16), repeat=2)),
    **dict.fromkeys((Opcode.SOFTMAX, Opcode.NORM), frozenset(_CONVERTED)),
    Opcode.MUL: frozenset(_SUMMED),
    Opcode.TABLE: frozenset({*product((DType.INT8,), _INTEGER), *_ALIKE[1:]}),
    Opcode.SOFTMAX_LOG: frozenset({(DType.INT16, DType.INT16)}),
    **dict.fromkeys((Opcode.REDUCE, Opcode.RESIZE), frozenset(_ALIKE)),
}
_WIDE_SUMS = (Opcode.MATMUL, Opcode.RESIZE)  # of INT16 take 48 bits
_MAY_KEEP_SCALE = {Opcode.POOL: PoolMode.MAX, Opcode.REDUCE: PoolMode.MAX, Opcode.RESIZE: ResizeMode.NEAREST}
"""The combinations of element types that have a meaning, in the order of the opcode's fields `*_type`."""


def check_fields(opcode: Opcode, values: Sequence[int]) -> None:
    """Raises `ProgramFault` naming the field when a value has no meaning (negative count, shift 63, ...)."""
    types = tuple([values[p] for p in TYPE_FIELDS[opcode]])
    checked, ordered, order = _checks(opcode, types)
    unscaled = opcode in _MAY_KEEP_SCALE and _keeps_scale(opcode, values)
    if unscaled and types[0] != types[1]:
        raise ProgramFault(f"{opcode.name} to another element type needs a RESCALE, its multiplier is 0")
    for position, low, high in checked:
        if low <= values[position] <= high:
            continue
        name = FIELDS[opcode][position]
        if unscaled and name in ("multiplier", "shift"):
            continue
        raise ProgramFault(f"{name} must be within {low}..{high} in {opcode.name}, got {values[position]}")
    for low, high in ordered:
        if not order(values[low], values[high]):
            names = FIELDS[opcode]
            raise ProgramFault(f"{names[low]} exceeds {names[high]} in {opcode.name}")


@cache
def _checks(
    opcode: Opcode, types: tuple[int, ...]
) -> tuple[tuple[tuple[int, int, int], ...], tuple[tuple[int, int], ...], Callable[[int, int], bool]]:
    """Ranges by position, positions of ordered pairs, and what ordered means, for one choice of element types."""
    _check_types(opcode, types)
    names = FIELDS[opcode]
    found = {names[p]: DType(t) for p, t in zip(TYPE_FIELDS[opcode], types, strict=True)}
    ranges = _RANGES | _typed_ranges(opcode, found)
    pairs = (("act_min", "act_max"), ("conv_min", "conv_max"))
    return (
        tuple((position, *ranges[name]) for position, name in enumerate(names) if name in ranges),
        tuple((names.index(low), names.index(high)) for low, high in pairs if low in names),
        _floats_are_ordered if DType.BF16 in types[-1:] else int.__le__,
    )


def _check_types(opcode: Opcode, types: tuple[int, ...]) -> None:
    allowed = TYPES.get(opcode, frozenset({()}))
    if types in allowed:
        return
    known = "; ".join(sorted(" ".join(t.name for t in found) for found in allowed))
    got = " ".join(DType(t).name if t in tuple(DType) else str(t) for t in types)
    names = ", ".join(FIELDS[opcode][p] for p in TYPE_FIELDS[opcode])
    raise ProgramFault(f"{opcode.name} has no meaning for {names} = {got}", hint=f"known: {known}")


def _typed_ranges(opcode: Opcode, types: dict[str, DType]) -> dict[str, tuple[int, int]]:
    """Ranges of the fields whose meaning depends on element types."""
    if "out_type" not in types:
        return {}
    first, out = types["in_type"], types["out_type"]
    found = {f"{prefix}_zp": _zero_points(types.get(f"{prefix}_type", out)) for prefix in ("in", "b", "out", "conv")}
    clamp = LIMITS.get(out, _ANY)
    found |= dict.fromkeys(("act_min", "act_max", "conv_min", "conv_max"), clamp)
    if first in INTEGERS and out in INTEGERS and out is not DType.INT32:
        largest = MAX_SCALE16 if opcode in _WIDE_SUMS and first is DType.INT16 else INT32_MAX
        found |= dict.fromkeys(_SCALES, _POSITIVE) | {"multiplier": (1, largest)} | dict.fromkeys(_SHIFTS, (2, 62))
    elif opcode in _MAY_KEEP_SCALE or (first in INTEGERS) != (out in INTEGERS):
        found["multiplier"] = (1, PLUS_INFINITY - 1)  # the bits of a positive finite float32
    return found


def _zero_points(dtype: DType) -> tuple[int, int]:
    """Only INT8 has zero points other than 0, as in TOSA."""
    return LIMITS[dtype] if dtype is DType.INT8 else (0, 0)


def _floats_are_ordered(low: int, high: int) -> bool:
    """False for NaN too."""
    return bits_float(low) <= bits_float(high)


def _keeps_scale(opcode: Opcode, values: Sequence[int]) -> bool:
    """A maximum or a nearest neighbour without RESCALE has multiplier 0 and any shift."""
    names = FIELDS[opcode]
    return values[names.index("mode")] == _MAY_KEEP_SCALE[opcode] and values[names.index("multiplier")] == 0


def legal_range(field: str) -> tuple[int, int] | None:
    """Smallest and largest value with a meaning, for fields that have fixed ones where all elements are INT8."""
    return _PLAIN.get(field)


NO_CLAMP = {DType.BF16: (MINUS_INFINITY, PLUS_INFINITY), **LIMITS}
"""act_min and act_max that clamp nothing, by output type."""
_PLAIN = _RANGES | _typed_ranges(Opcode.CONV_ADD, dict.fromkeys(("in_type", "b_type", "out_type"), DType.INT8))
