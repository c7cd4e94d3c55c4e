"""`Operator`: what one node of a device's graph computes, as a hashable value. The unit that devices are fitted on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from math import prod
from typing import Any, TypeAlias

from ...common.errors import ModelError
from ...common.files import stable_hash

Shape: TypeAlias = tuple[int, ...]

BYTES_PER_ELEMENT: Mapping[str, int] = {
    "float64": 8, "int64": 8, "uint64": 8, "float32": 4, "int32": 4, "uint32": 4, "float16": 2, "bfloat16": 2,
    "int16": 2, "uint16": 2, "int8": 1, "uint8": 1, "bool": 1,
}  # fmt: skip
_QUANTISED = ("int8", "uint8")
_ACCUMULATOR_BYTES = 4


class Kind(StrEnum):
    """Kinds with a meaning of their own here. Any other operator keeps its ONNX name as its kind."""

    CONV = "conv"
    DEPTHWISE = "depthwise-conv"
    GROUPED = "grouped-conv"
    TRANSPOSED = "transposed-conv"
    LINEAR = "linear"
    MATMUL = "matmul"
    MAX_POOL = "max-pool"
    AVERAGE_POOL = "average-pool"
    GLOBAL_POOL = "global-pool"
    ADD = "add"
    MUL = "mul"
    SUB = "sub"
    DIV = "div"
    RELU = "relu"
    CLIP = "clip"
    SIGMOID = "sigmoid"
    TANH = "tanh"
    GELU = "gelu"
    SILU = "silu"
    HARD_SWISH = "hard-swish"
    HARD_SIGMOID = "hard-sigmoid"
    LEAKY_RELU = "leaky-relu"
    BATCH_NORM = "batch-norm"
    LAYER_NORM = "layer-norm"
    GROUP_NORM = "group-norm"
    SOFTMAX = "softmax"
    CONCAT = "concat"
    SLICE = "slice"
    PAD = "pad"
    GATHER = "gather"
    TRANSPOSE = "transpose"
    RESHAPE = "reshape"
    COPY = "copy"
    RESIZE = "resize"
    REDUCE = "reduce"
    QUANTISE = "quantise"
    DEQUANTISE = "dequantise"
    ZERO = "zero"
    """Executes, reads its input and writes zeros."""
    CONSTANT = "constant"
    """Known before the program runs: it has no inputs and is not executed."""


CONVOLUTIONS = (Kind.CONV, Kind.DEPTHWISE, Kind.GROUPED, Kind.TRANSPOSED)
POOLS = (Kind.MAX_POOL, Kind.AVERAGE_POOL)
ACTIVATIONS = (
    Kind.RELU, Kind.CLIP, Kind.SIGMOID, Kind.TANH, Kind.GELU, Kind.SILU, Kind.HARD_SWISH, Kind.HARD_SIGMOID,
    Kind.LEAKY_RELU,
)  # fmt: skip
_WINDOWED = (*CONVOLUTIONS, *POOLS)


@dataclass(frozen=True, slots=True)
class Window:
    """A sliding window. Pairs are (height, width), padding is (top, left, bottom, right)."""

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1

    def __post_init__(self) -> None:
        if min(*self.kernel, *self.stride, *self.dilation, self.groups) < 1:
            raise ModelError(f"kernel, stride, dilation and groups of a window start at 1: {self}")

    @classmethod
    def square(cls, kernel: int, stride: int = 1, padding: int = 0, *, groups: int = 1) -> Window:
        return cls((kernel, kernel), (stride, stride), padding=(padding, padding, padding, padding), groups=groups)

    @property
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1]


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator with its shapes; two nodes with equal operators cost the same.

    inputs: shapes of the tensors computed at run time, batch included, (N, C, H, W) for maps, any rank otherwise.
        Operands of the epilogue (the other side of a fused addition) follow those of the operator itself.
    output: shape of the result, in the same layout.
    weights: shapes of the constant operands; for convolutions (out, in / groups, kh, kw), for linear (out, in), biases
        as one-dimensional shapes.
    window: needed for convolutions and pools, absent otherwise.
    dtype: of the activations, a NumPy name.
    fused: operators executed in the same pass after this one, such as ("relu",) or ("add", "relu").

    Raises:
        ModelError: empty kinds or extents, an unknown dtype, or a window that is missing or has no place.
    """

    kind: str
    inputs: tuple[Shape, ...]
    output: Shape
    window: Window | None = None
    weights: tuple[Shape, ...] = ()
    dtype: str = "float32"
    fused: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise ModelError(problem, where=f"operator {self.kind!r}")

    def _problem(self) -> str | None:
        if not self.kind:
            return "an operator needs a kind"
        empty = [shape for shape in (*self.inputs, self.output, *self.weights) if any(n < 1 for n in shape)]
        if empty:
            return f"shape {empty[0]} has an extent below 1"
        if self.dtype not in BYTES_PER_ELEMENT:
            return f"dtype {self.dtype!r} is none of {', '.join(BYTES_PER_ELEMENT)}"
        if (self.kind in _WINDOWED) != (self.window is not None):
            return "a window belongs to convolutions and pools, and only to them"
        if self.kind in CONVOLUTIONS and (not self.weights or len(self.weights[0]) != len(self.output)):
            return f"weights {self.weights} do not fit a convolution to {self.output}"
        if self.kind == Kind.LINEAR and (not self.weights or len(self.weights[0]) != 2):
            return f"weights {self.weights} do not fit a linear operator"
        if self.kind == Kind.CONSTANT and self.inputs:
            return "a constant has no inputs"
        return None

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions, linear operators and matrix products; 0 for all others."""
        if self.kind == Kind.TRANSPOSED:
            return prod(self.inputs[0]) * prod(self.weights[0][1:])
        if self.kind in CONVOLUTIONS or self.kind == Kind.LINEAR:
            return prod(self.output) * prod(self.weights[0][1:])
        if self.kind == Kind.MATMUL:
            return prod(self.output) * self.inputs[0][-1]
        return 0

    @property
    def elementary_steps(self) -> int:
        """Comparisons, additions or function values: window taps of pools, elements read by all others without MACs."""
        if self.macs or self.kind == Kind.CONSTANT:
            return 0
        if self.window is not None:
            return prod(self.output) * self.window.taps
        return max(prod(self.output), *(prod(shape) for shape in self.inputs)) if self.inputs else prod(self.output)

    @property
    def executed(self) -> bool:
        return self.kind != Kind.CONSTANT

    @property
    def input_bytes(self) -> int:
        """Bytes of every operand computed at run time, each read once."""
        return sum(prod(shape) for shape in self.inputs) * BYTES_PER_ELEMENT[self.dtype]

    @property
    def output_bytes(self) -> int:
        return prod(self.output) * BYTES_PER_ELEMENT[self.dtype]

    @property
    def weight_bytes(self) -> int:
        """Bytes of the constant operands; the biases of quantised operators are as wide as their accumulators."""
        return sum(prod(shape) * self._weight_element_bytes(shape) for shape in self.weights)

    def _weight_element_bytes(self, shape: Shape) -> int:
        quantised_bias = self.dtype in _QUANTISED and len(shape) == 1
        return _ACCUMULATOR_BYTES if quantised_bias else BYTES_PER_ELEMENT[self.dtype]

    @property
    def parameters(self) -> int:
        return sum(prod(shape) for shape in self.weights)

    def as_dict(self) -> dict[str, Any]:
        """The canonical JSON form, without fields that have their default; `from_dict` reads it back."""
        document: dict[str, Any] = {
            "kind": str(self.kind), "inputs": [list(s) for s in self.inputs], "output": list(self.output),
        }  # fmt: skip
        if self.window is not None:
            window = self.window
            document["window"] = {
                "kernel": list(window.kernel), "stride": list(window.stride), "dilation": list(window.dilation),
                "padding": list(window.padding), "groups": window.groups,
            }  # fmt: skip
        if self.weights:
            document["weights"] = [list(shape) for shape in self.weights]
        if self.dtype != "float32":
            document["dtype"] = self.dtype
        if self.fused:
            document["fused"] = [str(kind) for kind in self.fused]
        return document

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Operator:
        """Raises `ModelError` for anything that `as_dict` would not write."""
        try:
            operator = _from_dict(document)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"not an operator: {error}", where=str(document)[:80]) from error
        if operator.as_dict() != document:
            unknown = set(document).difference(operator.as_dict())
            raise ModelError(f"not an operator in canonical form, see {sorted(unknown)}", where=str(document)[:80])
        return operator

    def digest(self) -> str:
        """Stable key of the operator in stores and files."""
        return _digest(self)


def convolution_kind(groups: int, channels_in: int) -> Kind:
    """Depthwise when every input channel is a group of its own."""
    if groups == 1:
        return Kind.CONV
    return Kind.DEPTHWISE if groups == channels_in else Kind.GROUPED


def _from_dict(document: Mapping[str, Any]) -> Operator:
    window = document.get("window")
    return Operator(
        str(document["kind"]), tuple(_shape(s) for s in document["inputs"]), _shape(document["output"]),
        None if window is None else _window(window), tuple(_shape(s) for s in document.get("weights", ())),
        str(document.get("dtype", "float32")), tuple(str(kind) for kind in document.get("fused", ())),
    )  # fmt: skip


def _window(document: Mapping[str, Any]) -> Window:
    kernel, stride, dilation = (_shape(document[key]) for key in ("kernel", "stride", "dilation"))
    padding = _shape(document["padding"])
    if len(kernel) != 2 or len(stride) != 2 or len(dilation) != 2 or len(padding) != 4:
        raise ModelError("a window has two axes and four sides", where=str(document)[:80])
    return Window(kernel, stride, dilation, padding, int(document["groups"]))


def _shape(values: Any) -> Shape:
    return tuple(int(n) for n in values)


@lru_cache(maxsize=65536)
def _digest(operator: Operator) -> str:
    return stable_hash(operator.as_dict())
