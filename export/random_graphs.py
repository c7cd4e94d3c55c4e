"""Random quantised graphs: the material of equality tests and benchmarks, also for kernels from elsewhere.

Every graph is a pure function of the generator it is given. Scales are drawn so that outputs fill
the int8 range and saturate now and then; zero points, clamps, strides, paddings and odd shapes are
all drawn, since that is where kernels break.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from ..kernels.function_ops import Mul, Norm, Reduce, Reduction, Softmax, Table
from ..kernels.movement_ops import Movement, TransposedConv2d
from ..kernels.ops import Add, Conv2d, MatMul, Op, Pool2d, Requantise, Shape, Window
from ..targets.spec import EngineSpec
from .graph import (
    Constants,
    ConvConstants,
    Graph,
    MapConstants,
    Node,
    NormConstants,
    Quantisation,
    TableConstants,
    Tensor,
)
from .random_attention import attend
from .random_functions import FUNCTIONS, random_function
from .random_movement import move

_FILLING = (1.0, 0.1, 8.0, 1e-3, 1e5)  # of the output scale: in range, saturated, narrow, all extremes, all zero
_REACH = 6  # once before and once behind an operator, it leaves the largest sums below 2^31
_FILLING_ODDS = (0.7, 0.12, 0.12, 0.03, 0.03)


@dataclass(slots=True)
class GraphBuilder:
    """Grows a graph node by node, drawing weights and quantisation from `rng`."""

    rng: np.random.Generator
    nodes: list[Node] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    constants: dict[str, Constants] = field(default_factory=dict)
    unified: set[str] = field(default_factory=set)
    fixed: list[str] = field(default_factory=list)

    def tensor(self, name: str, shape: Shape, scale: float) -> str:
        host = (shape[2],) if shape[:2] == (1, 1) else (shape[2], *shape[:2])
        ends = self.rng.random() < 0.25  # ReLU puts zero points at an end of the range
        zero_point = int(self.rng.choice([-128, 127])) if ends else int(self.rng.integers(-128, 128))
        stored = float(np.float32(scale))  # as ONNX keeps it
        self.tensors[name] = Tensor(name, shape, Quantisation(stored, zero_point), host)
        return name

    def unify(self, names: Sequence[str]) -> None:
        """Gives maps the quantisation of the first one, save those of maxima and of the host.

        Each map once, and by a factor that no RESCALE before or behind it can overflow for.
        """
        maxima = [n for n in self.nodes if isinstance(n.op, Pool2d) and n.op.maximum]
        fixed = {name for node in maxima for name in (*node.inputs, node.output)}
        for name in names:
            shared = self.tensors[names[0]].quantisation
            near = 1 / _REACH <= shared.scale / self.tensors[name].quantisation.scale <= _REACH
            if near and name not in fixed | self.unified and any(node.output == name for node in self.nodes):
                self.unified.add(name)
                self.tensors[name] = replace(self.tensors[name], quantisation=shared)

    def add_node(self, op: Op | Movement, *inputs: str, keep_scale: bool = False) -> str:
        """`keep_scale`: the output has the quantisation of the first input, and no clamp."""
        name = f"{type(op).__name__.lower()}{len(self.nodes)}"
        scale = self._output_scale(name, op, inputs) * float(self.rng.choice(_FILLING, p=_FILLING_ODDS))
        output = self.tensor(f"{name}:0", op.output, scale)
        if keep_scale or (isinstance(op, Pool2d) and op.maximum):
            self.tensors[output] = replace(self.tensors[output], quantisation=self.tensors[inputs[0]].quantisation)
        low, high = sorted(int(v) for v in self.rng.integers(-128, 128, 2))
        clamp = (low, high) if self.rng.random() < 0.3 and high - low > 100 and not keep_scale else (-128, 127)
        self.nodes.append(Node(name, op, inputs, output, clamp))
        return output

    def _output_scale(self, name: str, op: Op | Movement, inputs: tuple[str, ...]) -> float:
        source = max(self.tensors[name].quantisation.scale for name in inputs)
        if not isinstance(op, Conv2d | TransposedConv2d):
            return self._function_scale(name, op, inputs) * float(self.rng.uniform(0.5, 2.0))
        depth = 1 if op.depthwise else op.input[2]
        window, count = op.window, op.output[2]
        scales = self.rng.uniform(0.002, 0.02, count).astype(np.float32).astype(np.float64)
        bias = self.rng.integers(-20_000, 20_000, count).astype(np.int32)
        weights = self._weights((count, window.kernel_h, window.kernel_w, depth))
        self.constants[name] = ConvConstants(weights, bias, scales)
        return source * 0.01 * 73 * 74 * float(np.sqrt(depth * window.taps)) / 60

    def _function_scale(self, name: str, op: Op | Movement, inputs: tuple[str, ...]) -> float:
        """Scale with which most outputs of a vector operator lie in range; draws its constants."""
        scales = [self.tensors[name].quantisation.scale for name in inputs]
        match op:
            case Mul():
                return scales[0] * scales[1] * 60
            case MatMul():
                return scales[0] * scales[1] * 70 * float(np.sqrt(op.input[2]))
            case Softmax():
                return 1 / 256
            case Table():
                self.constants[name] = TableConstants(self._weights((256,)))
                return 1.0
            case Norm():
                gamma, beta = self.rng.normal(1, 0.5, op.output[2]), self.rng.normal(0, 0.5, op.output[2])
                epsilon = float(self.rng.choice([0, 1e-5, 1])) * scales[0] ** 2
                self.constants[name] = NormConstants(gamma * (self.rng.random(op.output[2]) < 0.95), beta, epsilon)
                return 3 / 100
            case Reduce(mode=Reduction.SUM):
                return scales[0] * float(np.sqrt(op.count))
            case _:
                return max(scales)

    def _weights(self, shape: tuple[int, ...]) -> NDArray[np.int8]:
        """Mostly dense and uniform; some sparse, some with nothing but the largest magnitudes."""
        weights = self.rng.integers(-127, 128, shape)
        match self.rng.choice(["dense", "dense", "dense", "dense", "sparse", "extreme"]):
            case "sparse":
                weights = weights * (self.rng.random(shape) < 0.2)
            case "extreme":
                weights = np.where(weights < 0, -128, 127)
        return weights.astype(np.int8)

    def graph(self, outputs: tuple[str, ...]) -> Graph:
        made = {*self.fixed, *(name for node in self.nodes for name in (node.output, *node.extra))}
        inputs = tuple(n for n in self.tensors if n not in made)
        return Graph(tuple(self.nodes), self.tensors, inputs, outputs, self.constants, fixed=tuple(self.fixed))

    def fixed_map(self, shape: Shape, scale: float) -> str:
        """A constant map."""
        name = self.tensor(f"fixed{len(self.fixed)}", shape, scale)
        self.fixed.append(name)
        self.constants[name] = MapConstants(self._weights(shape))
        return name


def random_graph(
    rng: np.random.Generator,
    *,
    max_ops: int = 6,
    branching: float = 0.0,
    functions: float = 0.0,
    moving: float = 0.0,
    attention: float = 0.0,
    kinds: Sequence[str] = (),
) -> Graph:
    """A graph of about 1 to `max_ops` operators: convolutions, bottlenecks, residuals, pools, additions, a head.

    `branching` is the chance that an operator reads any earlier map instead of the newest; maps that nothing reads
    are outputs. `functions` is the chance that an operator is one of `random_functions`, of `kinds` only if given.
    `moving` is the chance that maps are concatenated, sliced, padded and so on, `attention` that they pass through
    cuboid attention.
    """
    build = GraphBuilder(rng)
    bottlenecks = rng.random() < 0.35
    low, high = (10, 30) if bottlenecks else (1, 20)
    channels = int(rng.choice([1, 2, 3, 5, 8, 13, 16, 17, 24, 33]))
    shape = (int(rng.integers(low, high)), int(rng.integers(low, high)), channels)
    current = build.tensor("input", shape, float(rng.uniform(0.01, 0.1)))
    budget = int(rng.integers(1, max_ops + 1))
    while len(build.nodes) < budget:
        if branching and rng.random() < branching:
            current = str(rng.choice(list(build.tensors)))
        if attention and rng.random() < attention:
            current = attend(build, current)
        elif moving and rng.random() < moving:
            current = move(build, current)
        elif functions and rng.random() < functions:
            current = _function(build, current, tuple(kinds) or tuple(FUNCTIONS))
        elif bottlenecks:
            current = _bottleneck(build, current, fused=rng.random() < 0.5)
        else:
            current = _grow(build, current)
    if rng.random() < 0.25:
        current = _head(build, current)
    read = {name for node in build.nodes for name in node.inputs}
    outputs = [name for node in build.nodes for name in (node.output, *node.extra) if name not in read]
    if rng.random() < 0.15 and len(build.nodes) > 1:  # a map that leaves the region and is used inside as well
        outputs.append(str(rng.choice([n.output for n in build.nodes[:-1]])))
    return build.graph(tuple(dict.fromkeys(outputs)))


def random_spec(rng: np.random.Generator, presets: list[EngineSpec], graph: Graph) -> EngineSpec:
    """One of `presets`, mostly with an SRAM near the size of the largest map, so that maps spill, stream and chain."""
    spec = presets[int(rng.integers(len(presets)))]
    if rng.random() < 0.3 or not spec.spill:  # without DRAM for maps, less SRAM would only refuse the graph
        return spec
    largest = max(tensor.size_bytes for tensor in graph.tensors.values())
    small = 1024 + int(largest * rng.uniform(0.4, 1.8)) // 64 * 64
    return replace(spec, name=f"{spec.name}-{small}", sram_bytes=small, sram_banks=1)


def random_inputs(rng: np.random.Generator, graph: Graph, batch: int) -> dict[str, NDArray[np.int8]]:
    """int8 arrays (batch, H, W, C) for every graph input; now and then a whole map of extremes."""

    def draw(shape: tuple[int, ...]) -> NDArray[np.int8]:
        values = rng.integers(-128, 128, shape)
        return (np.where(values < 0, -128, 127) if rng.random() < 0.15 else values).astype(np.int8)

    return {n: np.stack([draw(graph.tensors[n].shape) for _ in range(batch)]) for n in graph.inputs}


def _grow(build: GraphBuilder, current: str) -> str:
    rng, shape = build.rng, build.tensors[current].shape
    match rng.choice(["conv", "point", "depthwise", "ibn", "fused", "pool", "add", "requantise", "strided"]):
        case "conv":
            return _conv(build, current, _channels(rng), _kernel(rng), (1, 1))
        case "strided":
            return _conv(build, current, _channels(rng), _kernel(rng), _stride(rng))
        case "point":
            stride = int(rng.choice([1, 1, 2]))
            return _conv(build, current, _channels(rng), (1, 1), (stride, stride))
        case "depthwise":
            return _conv(build, current, shape[2], _kernel(rng), _stride(rng), depthwise=True)
        case "ibn":
            return _bottleneck(build, current, fused=False)
        case "fused":
            return _bottleneck(build, current, fused=True)
        case "pool":
            return _pool(build, current)
        case "add":
            same = [n for n, t in build.tensors.items() if t.shape == shape]
            return build.add_node(Add(shape), *rng.permutation([current, str(rng.choice(same))]).tolist())
        case _:
            return build.add_node(Requantise(shape), current)


def _function(build: GraphBuilder, current: str, kinds: Sequence[str]) -> str:
    """One operator of `random_functions`; gates come from the averages of their map, as in squeeze and excite."""
    rng, shape = build.rng, build.tensors[current].shape
    op = random_function(rng, shape, str(rng.choice(kinds)))
    if not isinstance(op, Mul):
        return build.add_node(op, current)
    if not op.gate:
        return build.add_node(op, current, str(rng.choice([n for n, t in build.tensors.items() if t.shape == shape])))
    squeezed = (1, 1, shape[2])
    average = build.add_node(Pool2d(shape, squeezed, Window(*shape[:2]), maximum=False), current)
    return build.add_node(op, current, build.add_node(Table(squeezed), average))


def _channels(rng: np.random.Generator) -> int:
    return int(rng.choice([1, 3, 4, 8, 12, 16, 17, 31, 32, 40]))


def _kernel(rng: np.random.Generator) -> tuple[int, int]:
    """Mostly square; some are a row or a column, or differ per axis."""
    size = int(rng.choice([2, 3, 3, 5]))
    match rng.choice(["square", "square", "square", "row", "column", "free"]):
        case "row":
            return 1, size
        case "column":
            return size, 1
        case "free":
            return size, int(rng.choice([1, 2, 3, 4, 7]))
    return size, size


def _stride(rng: np.random.Generator) -> tuple[int, int]:
    size = int(rng.choice([1, 2, 2, 3]))
    return (size, size) if rng.random() < 0.8 else (size, int(rng.choice([1, 2, 4])))


def _conv(
    build: GraphBuilder,
    source: str,
    channels: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    *,
    depthwise: bool = False,
) -> str:
    shape = build.tensors[source].shape
    window = random_window(build.rng, shape, kernel, stride)
    if window is None:
        return build.add_node(Requantise(shape), source)
    size, op_window = window
    return build.add_node(Conv2d(shape, (*size, channels), op_window, depthwise), source)


def random_window(
    rng: np.random.Generator, shape: Shape, kernel: tuple[int, int], stride: tuple[int, int], *, pad: bool = True
) -> tuple[tuple[int, int], Window] | None:
    """Output size and window; leading and trailing padding are drawn independently, as TensorFlow's SAME needs.

    None where no window fits the map. Trailing rows and columns may stay unread.
    """
    sizes: list[int] = []
    pads: list[int] = []
    for extent, size, step in zip(shape[:2], kernel, stride, strict=True):
        before, after = (int(v) for v in rng.integers(0, (size + 1) // 2 + 1, 2)) if pad else (0, 0)
        before = min(before, size - 1)
        out = (extent + before + after - size) // step + 1
        if extent + before < size or out < 1 or (out - 1) * step - before >= extent:
            return None
        sizes.append(out)
        pads.append(before)
    return (sizes[0], sizes[1]), Window(*kernel, *stride, pads[0], pads[1])


def _bottleneck(build: GraphBuilder, source: str, *, fused: bool) -> str:
    rng, shape = build.rng, build.tensors[source].shape
    wide = shape[2] * int(rng.choice([2, 3, 4]))
    kernel, stride = int(rng.choice([3, 5])), int(rng.choice([1, 1, 2]))
    out = shape[2] if stride == 1 and rng.random() < 0.7 else _channels(rng)
    if fused:
        inner = _same(build, source, wide, kernel, stride)
    else:
        inner = _same(build, _same(build, source, wide, 1, 1), wide, kernel, stride, depthwise=True)
    result = _same(build, inner, out, 1, 1)
    if build.tensors[result].shape == shape:
        return build.add_node(Add(shape), *rng.permutation([source, result]).tolist())
    return result


def _same(build: GraphBuilder, source: str, channels: int, kernel: int, stride: int, *, depthwise: bool = False) -> str:
    height, width, _ = shape = build.tensors[source].shape
    size = (-(-height // stride), -(-width // stride), channels)
    pad = kernel // 2
    return build.add_node(Conv2d(shape, size, Window(kernel, kernel, stride, stride, pad, pad), depthwise), source)


def _pool(build: GraphBuilder, source: str) -> str:
    rng, shape = build.rng, build.tensors[source].shape
    if rng.random() < 0.4:
        whole = Window(shape[0], shape[1])
        return build.add_node(Pool2d(shape, (1, 1, shape[2]), whole, maximum=bool(rng.random() < 0.3)), source)
    maximum = bool(rng.random() < 0.5)
    window = random_window(rng, shape, _kernel(rng), _stride(rng), pad=maximum)
    if window is None:
        return build.add_node(Requantise(shape), source)
    return build.add_node(Pool2d(shape, (*window[0], shape[2]), window[1], maximum), source)


def _head(build: GraphBuilder, source: str) -> str:
    shape = build.tensors[source].shape
    if prod(shape[:2]) > 1:
        source = build.add_node(Pool2d(shape, (1, 1, shape[2]), Window(shape[0], shape[1]), maximum=False), source)
    classes = int(build.rng.integers(2, 40))
    return build.add_node(Conv2d((1, 1, shape[2]), (1, 1, classes), Window(1, 1)), source)
