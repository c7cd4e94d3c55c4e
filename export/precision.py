"""Precision per operator: an int8 graph becomes one whose operators work on int8, int16 (int8x16) or bf16 maps.

Maps keep the real range that calibration gave them, so that a wider type only rounds less. Where neighbours differ, a
`Requantise` converts; maps that the host gives and takes stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from ..common.errors import ConfigError, UnknownNameError, UnsupportedError
from ..kernels.cuboid_float import FloatAttention
from ..kernels.cuboid_integer import IntegerAttention
from ..kernels.cuboid_op import CuboidAttention
from ..kernels.element_types import PRECISIONS, full_range, operand_names, output_name
from ..kernels.function_ops import Resize
from ..kernels.movement_ops import Movement, Rearrange, TransposedConv2d
from ..kernels.ops import Op, Requantise
from ..kernels.tables import Function
from ..targets.elements import rounded_to_bf16
from .graph import Clamp, Constants, ConvConstants, FunctionConstants, Graph, Node, Quantisation, TableConstants, Tensor

_LARGEST_INT16 = 2**15 - 1


@dataclass(frozen=True, slots=True)
class Precision:
    """What precision each operator gets: that of the first pattern that fits its name, or else `default`.

    Patterns are shell-like (`stage3.*`). Operators that know int8 only keep it, unless a pattern asks for more.
    """

    default: str = "int8"
    overrides: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for name in (self.default, *(precision for _, precision in self.overrides)):
            if name not in PRECISIONS:
                raise UnknownNameError("precision", name, PRECISIONS)

    def of(self, node: Node) -> str:
        """The name of the operator's precision; `UnsupportedError` when a pattern asks for what it cannot do."""
        for pattern, precision in self.overrides:
            if any(fnmatchcase(name, pattern) for name in (node.name, *node.source)):
                if not _knows(node.op, precision):
                    what = f"{type(node.op).__name__} does not work in {precision}"
                    raise UnsupportedError(what, where=f"node {node.name!r}", hint="leave it int8")
                if precision == "int8" and output_name(node.op) == "int16":
                    hint = "int16 models stay int8x16, or take bf16"
                    raise UnsupportedError("the model holds int16 maps here", where=f"node {node.name!r}", hint=hint)
                return precision
        if self.default == "int8" and output_name(node.op) == "int16":
            return "int8x16"
        return self.default if _knows(node.op, self.default) else "int8"

    def check_patterns(self, nodes: Iterable[Node]) -> None:
        """Raises `ConfigError` for a pattern that fits none of the operators: it is mistyped."""
        names = {name for node in nodes for name in (node.name, *node.source)}
        for pattern, _ in self.overrides:
            if not any(fnmatchcase(name, pattern) for name in names):
                near = get_close_matches(pattern, names, n=3, cutoff=0.5)
                hint = f"did you mean {' or '.join(near)}? " if near else ""
                hint += f"operators on the engine: {', '.join(sorted(names)[:20])}"
                raise ConfigError(f"the pattern {pattern!r} fits no operator on the engine", hint=hint)

    def __str__(self) -> str:
        return "; ".join([self.default, *(f"{pattern}={name}" for pattern, name in self.overrides)])

    @property
    def is_plain(self) -> bool:
        return self.default == "int8" and all(precision == "int8" for _, precision in self.overrides)


def _knows(op: Op | Movement, precision: str) -> bool:
    """Cuboid attention has no int8x16, and with global vectors no bf16."""
    return not isinstance(op, CuboidAttention) or precision == "int8" or (precision == "bf16" and not op.global_vectors)


INT8 = Precision()


def parse_override(text: str) -> tuple[str, str]:
    """`PATTERN=PRECISION` as a pair; `ConfigError` for anything else."""
    pattern, equals, precision = text.rpartition("=")
    if not (equals and pattern and precision):
        raise ConfigError(f"{text!r} is not PATTERN=PRECISION", hint=f"precisions: {', '.join(PRECISIONS)}")
    return pattern, precision


def with_precision(graph: Graph, precision: Precision, real: Mapping[str, NDArray[np.float32]] | None = None) -> Graph:
    """`graph`, of int8 maps, with the chosen precisions. bf16 operators take `real` weights [out][row][column][in] by
    node name, or else the int8 ones at their scale. Raises `UnsupportedError` for operators that cannot follow."""
    return graph if precision.is_plain else _Assignment(graph, precision, real or {}).graph()


@dataclass(slots=True)
class _Assignment:
    source: Graph
    precision: Precision
    real: Mapping[str, NDArray[np.float32]]
    nodes: list[Node] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    constants: dict[str, Constants] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)  # element type in which each map was made

    def graph(self) -> Graph:
        for name in (*self.source.inputs, *self.source.fixed):
            self.made[name] = self.source.tensors[name].dtype
            self._add(name, self.made[name])
        for node in self.source.nodes:
            self._assign(node, PRECISIONS[self.precision.of(node)])
        kept = {name: self.source.constants[name] for name in self.source.fixed if name in self.source.constants}
        self.constants |= kept
        for name in self.source.outputs:
            self._as(name, self.source.tensors[name].dtype)
        return replace(self.source, nodes=tuple(self.nodes), tensors=self.tensors, constants=self.constants)

    def _assign(self, node: Node, dtype: str) -> None:
        if isinstance(node.op, Rearrange) and node.op.keeps_integers and dtype == "bf16":
            dtype = "int8"  # the change of scale that it stands for has no floating-point form
        op = _typed(node.op, dtype)
        names = operand_names(op, len(node.inputs))
        inputs = tuple(self._as(name, kind) for name, kind in zip(node.inputs, names, strict=True))
        output = self._add(node.output, dtype)
        self.made[node.output] = dtype
        for name in node.extra:
            self.made[self._add(name, dtype)] = dtype
        clamp = _clamp(node, self.source.tensors[node.output], self.tensors[output])
        self.nodes.append(replace(node, op=op, inputs=inputs, output=output, clamp=clamp))
        if node.name in self.source.constants:
            self.constants[node.name] = self._constants(node, dtype)

    def _as(self, name: str, dtype: str) -> str:
        """The map in another element type, converted when it is first asked for."""
        found = _variant(name, dtype, self.source.tensors[name])
        if found in self.tensors:
            return found
        made = _variant(name, self.made[name], self.source.tensors[name])
        op = Requantise(self.source.tensors[name].shape, dtype=dtype, source_dtype=self.made[name])
        producer = self.source.producer(name)
        self._add(name, dtype)
        self.nodes.append(
            Node(f"{name}.{dtype}", op, (made,), found, full_range(dtype), producer.source if producer else ())
        )
        return found

    def _add(self, name: str, dtype: str) -> str:
        tensor = self.source.tensors[name]
        found = _variant(name, dtype, tensor)
        self.tensors[found] = replace(tensor, name=found, dtype=dtype, quantisation=_quantisation(tensor, dtype))
        return found

    def _constants(self, node: Node, dtype: str) -> Constants:
        constants = self.source.constants[node.name]
        if dtype != "int8" and isinstance(constants, TableConstants):
            return _real_function(constants, *(self.source.tensors[name] for name in (node.inputs[0], node.output)))
        if dtype == "bf16" and isinstance(constants, IntegerAttention):
            return _real_attention(node, constants)
        if dtype == "int8" or not isinstance(constants, ConvConstants):
            return constants
        tensor = self.source.tensors[node.inputs[0]]
        units = tensor.quantisation.scale * constants.scales
        if dtype == "int16":
            ratio = tensor.quantisation.scale / _quantisation(tensor, dtype).scale
            return replace(constants, bias=np.rint(constants.bias.astype(np.float64) * ratio).astype(np.int64))
        weights = self.real.get(node.name)
        if weights is None:
            weights = constants.weights * constants.scales[:, None, None, None]
        kept = rounded_to_bf16(np.ascontiguousarray(weights, np.float32))
        return ConvConstants(kept, (constants.bias * units).astype(np.float32), np.ones(len(kept)))


def _typed(op: Op | Movement, dtype: str) -> Op | Movement:
    if isinstance(op, Requantise):
        return replace(op, dtype=dtype, source_dtype=dtype)
    return replace(op, dtype=dtype)


def _real_attention(node: Node, constants: IntegerAttention) -> FloatAttention:
    if constants.real is None:
        raise UnsupportedError("the matrices before quantisation are not known", where=f"node {node.name!r}")
    return FloatAttention.of(constants.real)


def _real_function(constants: TableConstants, source: Tensor, target: Tensor) -> FunctionConstants:
    """The function behind an int8 table; where only the table is known, straight lines between its points."""
    given, made = source.quantisation, target.quantisation
    inputs = (np.arange(-128.0, 128.0) - given.zero_point) * given.scale
    outputs = (constants.values.astype(np.float64) - made.zero_point) * made.scale
    lines: Function = lambda x: np.interp(x, inputs, outputs)  # noqa: E731
    return FunctionConstants(constants.function or lines, float(np.abs(inputs).max()))


def _variant(name: str, dtype: str, tensor: Tensor) -> str:
    return name if dtype == tensor.dtype else f"{name}@{dtype}"


def _quantisation(tensor: Tensor, dtype: str) -> Quantisation:
    """The same real range, as far as the type holds it, symmetric where it has no zero point."""
    own = tensor.quantisation
    if dtype == tensor.dtype:
        return own
    if dtype == "bf16":
        return Quantisation(1.0, 0)
    low, high = full_range(tensor.dtype)
    reach = max(high - own.zero_point, own.zero_point - low)
    return Quantisation(own.scale * reach / _LARGEST_INT16, 0)


def _clamp(node: Node, before: Tensor, after: Tensor) -> Clamp:
    """The real bounds of the stored values, in the units of the new type; saturation bounds like any clamp, but for
    elements that only move: they stay what they were."""
    if before.dtype == after.dtype:
        return node.clamp
    if _only_moves(node.op) and tuple(node.clamp) == full_range(before.dtype):
        return full_range(after.dtype)
    own = before.quantisation
    low, high = ((bound - own.zero_point) * own.scale / after.quantisation.scale for bound in node.clamp)
    if after.dtype == "bf16":
        return low, high
    least, most = full_range(after.dtype)
    return max(least, round(low)), min(most, round(high))


def _only_moves(op: Op | Movement) -> bool:
    if isinstance(op, Resize):
        return not op.bilinear
    return isinstance(op, Movement) and not isinstance(op, TransposedConv2d)
