"""Shape-level operators of the vector unit beyond pooling and addition; see `ops.py` for the conventions."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from ..common.errors import UnsupportedError

_Shape = tuple[int, int, int]
MAX_GROUP = 2**16  # elements that a softmax or a normalisation goes over
_MAX_NUMERATOR = 2**11
_MAX_SUMMED = {"int8": (2**31 - 1) // 255, "int16": 2**16 - 1, "bf16": 2**31 - 1}


@dataclass(frozen=True, slots=True)
class _Elementwise:
    output: _Shape
    dtype: str = field(default="int8", kw_only=True)

    @property
    def input(self) -> _Shape:
        return self.output

    @property
    def macs(self) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class Table(_Elementwise):
    """Any function of one element: sigmoid, tanh, GELU, hard-swish ..."""


@dataclass(frozen=True, slots=True)
class Mul(_Elementwise):
    """Element-wise product; with `gate` the second operand is (1, 1, C) and scales whole channels."""

    gate: bool = False


@dataclass(frozen=True, slots=True)
class Softmax(_Elementwise):
    """Over the channels of each position."""

    def __post_init__(self) -> None:
        _check_count("a softmax", self.output[2])


@dataclass(frozen=True, slots=True)
class Norm(_Elementwise):
    """Mean 0 and variance 1 over groups of channels, then a scale and an offset for each channel.

    Over the groups of each position alone (layer norm: one group), or of the whole map (group norm).
    """

    groups: int = 1
    over_map: bool = False

    def __post_init__(self) -> None:
        if self.groups < 1 or self.output[2] % self.groups:
            raise UnsupportedError(f"{self.output[2]} channels do not divide into {self.groups} groups")
        _check_count("a normalisation", self.count)

    @property
    def group(self) -> int:
        """Channels of one group."""
        return self.output[2] // self.groups

    @property
    def count(self) -> int:
        """Elements that share a mean and a variance."""
        return self.group * (self.output[0] * self.output[1] if self.over_map else 1)


class Reduction(StrEnum):
    SUM = "sum"
    MEAN = "mean"
    MAX = "max"


@dataclass(frozen=True, slots=True)
class Reduce:
    """Sum, mean or maximum over channels: output channel k covers `count` input channels from k × count on."""

    input: _Shape
    output: _Shape
    mode: Reduction
    dtype: str = "int8"

    def __post_init__(self) -> None:
        object.__setattr__(self, "mode", Reduction(self.mode))
        if self.input[:2] != self.output[:2] or self.output[2] < 1 or self.input[2] % self.output[2]:
            raise UnsupportedError(f"no reduction over channels makes {self.output} of {self.input}")
        if self.count > _MAX_SUMMED[self.dtype]:
            raise UnsupportedError(f"a sum of {self.count} {self.dtype} elements may leave int32")

    @property
    def count(self) -> int:
        return self.input[2] // self.output[2]

    @property
    def macs(self) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class Scale:
    """One axis of a resize: output i lies at input (i × denominator + offset) / numerator (TOSA 1.0, RESIZE)."""

    numerator: int
    denominator: int
    offset: int = 0

    def index(self, position: int) -> int:
        """The input element at or before an output position; it may lie one outside of the map."""
        return (position * self.denominator + self.offset) // self.numerator


@dataclass(frozen=True, slots=True)
class Resize:
    """Another height and width, by the nearest element or by bilinear interpolation."""

    input: _Shape
    output: _Shape
    vertical: Scale
    horizontal: Scale
    bilinear: bool
    dtype: str = "int8"

    def __post_init__(self) -> None:
        for name in ("vertical", "horizontal"):
            value = getattr(self, name)
            if isinstance(value, dict):
                object.__setattr__(self, name, Scale(**value))
        if min(*self.input, *self.output) < 1 or self.input[2] != self.output[2]:
            raise UnsupportedError(f"a resize keeps the channels of its map, got {self.input} to {self.output}")
        for axis, scale in enumerate((self.vertical, self.horizontal)):
            _check_scale(scale, self.input[axis], self.output[axis])

    @property
    def macs(self) -> int:
        return 0


def _check_scale(scale: Scale, size: int, outputs: int) -> None:
    """TOSA's limits of scales and offsets; and no output may lie further outside than interpolation reaches."""
    n, d, offset = scale.numerator, scale.denominator, scale.offset
    if not (1 <= n <= _MAX_NUMERATOR and 1 <= d < 16 * n and -n <= offset < 16 * n):
        raise UnsupportedError(f"a resize by {n}/{d} with offset {offset}/{n} is beyond TOSA's limits")
    if (outputs - 1) * d + offset < (size - 17) * n:
        raise UnsupportedError(f"a resize by {n}/{d} with offset {offset}/{n} to {outputs} crops a map of {size}")
    if scale.index(0) < -1 or scale.index(outputs - 1) >= size:
        raise UnsupportedError(f"a resize by {n}/{d} with offset {offset}/{n} to {outputs} leaves a map of {size}")


def _check_count(what: str, count: int) -> None:
    if not 1 <= count <= MAX_GROUP:
        raise UnsupportedError(f"{what} goes over at most {MAX_GROUP} elements, got {count}")
