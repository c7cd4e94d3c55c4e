"""`Subgraph`: the unit that the compiler places as one piece. Canonical, hashable, free of names and weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from ..common.errors import ConfigError, UnsupportedError
from ..common.files import stable_hash
from .cuboid_op import CuboidAttention
from .element_types import input_name, output_name
from .function_ops import Mul, Norm, Reduce, Resize, Softmax, Table
from .ops import Add, Conv2d, MatMul, Op, Pool2d, Requantise, Shape, Window


class Memory(StrEnum):
    """Where a tensor lives. HOST is DRAM in the host's channel-major order, DRAM in the engine's own order; TOKENS is
    DRAM that the host shares in the engine's order, as it does for tensors whose channels come last."""

    SRAM = "sram"
    DRAM = "dram"
    HOST = "host"
    TOKENS = "tokens"

    @property
    def is_shared(self) -> bool:
        """True for what the host writes or reads."""
        return self in (Memory.HOST, Memory.TOKENS)


class Kind(StrEnum):
    """What a report calls a subgraph; one kernel implements each kind."""

    CONV2D = "conv2d"
    DEPTHWISE = "depthwise"
    LINEAR = "linear"
    MATMUL = "matmul"
    FUSED_BOTTLENECK = "fused_bottleneck"
    INVERTED_BOTTLENECK = "inverted_bottleneck"
    ADD = "add"
    POOL = "pool"
    REQUANTISE = "requantise"
    TABLE = "table"
    MUL = "mul"
    SOFTMAX = "softmax"
    NORM = "norm"
    REDUCE = "reduce"
    RESIZE = "resize"
    CUBOID_ATTENTION = "cuboid_attention"


@dataclass(frozen=True, slots=True)
class Subgraph:
    """One operator, or a chain of convolutions whose intermediate maps never exist as a whole.

    `second` is the other operand of an addition or product: of a lone `Add` or `Mul`, or of the residual addition
    that the output stage of the last convolution performs.
    """

    ops: tuple[Op, ...]
    input: Memory
    output: Memory
    second: Memory | None = None

    def __post_init__(self) -> None:
        for before, after in zip(self.ops, self.ops[1:], strict=False):
            if before.output != after.input:
                raise UnsupportedError(f"chain breaks between {before.output} and {after.input}")
            if output_name(before) != input_name(after):
                raise UnsupportedError(f"chain breaks between {output_name(before)} and {input_name(after)} elements")
        if len(self.ops) > 1 and not all(isinstance(op, Conv2d) for op in self.ops):
            raise UnsupportedError("only convolutions can be chained")

    @property
    def kind(self) -> Kind:
        first = self.ops[0]
        if len(self.ops) > 1:
            fused = not any(isinstance(op, Conv2d) and op.depthwise for op in self.ops)
            return Kind.FUSED_BOTTLENECK if fused else Kind.INVERTED_BOTTLENECK
        if isinstance(first, Conv2d):
            if first.depthwise:
                return Kind.DEPTHWISE
            return Kind.LINEAR if first.input[:2] == first.output[:2] == (1, 1) else Kind.CONV2D
        if isinstance(first, MatMul):
            return Kind.MATMUL
        return Kind.CUBOID_ATTENTION if isinstance(first, CuboidAttention) else _VECTOR_KINDS[type(first)]

    @property
    def second_shape(self) -> Shape:
        """Shape of the second operand: that of the result, (1, 1, C) of a gate, or a product's own."""
        last = self.ops[-1]
        if isinstance(last, CuboidAttention):
            return (1, last.global_vectors, last.channels)
        if isinstance(last, MatMul):
            return last.other
        return (1, 1, last.output[2]) if isinstance(last, Mul) and last.gate else last.output

    @property
    def convs(self) -> tuple[Conv2d, ...]:
        return tuple(op for op in self.ops if isinstance(op, Conv2d))

    @property
    def macs(self) -> int:
        return sum(op.macs for op in self.ops)

    @property
    def streams(self) -> bool:
        """True when a feature map passes through DRAM, so that rows are moved stripe by stripe."""
        return any(m not in (None, Memory.SRAM) for m in (self.input, self.output, self.second))

    def as_dict(self) -> dict[str, Any]:
        ops = [{"op": type(op).__name__, **asdict(op)} for op in self.ops]
        return {"ops": ops, "input": self.input, "output": self.output, "second": self.second}

    def digest(self) -> str:
        """Stable across processes; the key of measurements and tilings."""
        return stable_hash(self.as_dict())


_VECTOR_KINDS: dict[type, Kind] = {
    Add: Kind.ADD, Pool2d: Kind.POOL, Requantise: Kind.REQUANTISE, Table: Kind.TABLE, Mul: Kind.MUL,
    Softmax: Kind.SOFTMAX, Norm: Kind.NORM, Reduce: Kind.REDUCE, Resize: Kind.RESIZE,
}  # fmt: skip
VECTOR_KINDS = tuple(_VECTOR_KINDS.values())
_OPS: dict[str, type[Op]] = {kind.__name__: kind for kind in (Conv2d, MatMul, CuboidAttention, *_VECTOR_KINDS)}


def subgraph_from_dict(value: dict[str, Any]) -> Subgraph:
    """The inverse of `Subgraph.as_dict`."""
    second = value["second"]
    return Subgraph(
        tuple(_op(dict(op)) for op in value["ops"]),
        Memory(value["input"]),
        Memory(value["output"]),
        Memory(second) if second is not None else None,
    )


def _op(value: dict[str, Any]) -> Op:
    name = value.pop("op")
    if name not in _OPS:
        raise ConfigError(f"unknown operator {name!r} in a subgraph", hint=f"known: {', '.join(_OPS)}")
    for key in ("input", "other", "output"):
        if key in value:
            value[key] = tuple(value[key])
    if "window" in value:
        value["window"] = Window(**value["window"])
    return _OPS[name](**value)
