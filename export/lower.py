"""From a plan to a `Program`: weight records, output-stage parameters, DRAM layout and instructions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from ..common.errors import UnsupportedError
from ..kernels.builder import Builder, Fence, Value
from ..kernels.cuboid_constants import float_stages, idle_stages, stage_params
from ..kernels.cuboid_op import CuboidAttention
from ..kernels.element_types import (
    clamp_fields,
    full_range,
    input_bytes,
    input_type,
    output_bytes,
    output_name,
    output_type,
    second_type,
)
from ..kernels.function_ops import Mul, Norm, Reduce, Reduction, Resize, Softmax, Table
from ..kernels.kernel import Operands, Rescale, Role, StageParams, TensorRef, held_bytes
from ..kernels.ops import Add, Conv2d, MatMul, Op, Pool2d, Shape
from ..kernels.rescale import add_operands, conv_operands, rescale_operands
from ..kernels.search import Candidate, kernels
from ..kernels.subgraph import Memory, Subgraph
from ..targets.elements import float_bits
from ..targets.isa import FIELDS, DType, Opcode, Unit
from ..targets.program import PORT_TYPES, Port, Program
from ..targets.spec import EngineSpec
from .functions import attention_of, fixed_map, function_bytes, second_epsilon, stage_epsilon
from .graph import Graph, Node, Tensor, View
from .overflow import refuse_overflow
from .packing import packed_weights
from .partition import Group, computing
from .planned import Plan, PlannedStep, buffer_name
from .records import record_bytes

_UNSCALED = ((1, 2), (1, 2), (1, 2))  # RESCALEs of an addition of floats, which has none
LEAD = "lead"  # label of the vector work that precedes a subgraph whose weights are prefetched
_ALIGNMENT_BYTES = 64


def compile_subgraph(subgraph: Subgraph, spec: EngineSpec, choice: Candidate, *, lead_cycles: int = 0) -> Program:
    """The program of one subgraph alone, with zero weights: what the timing model measures.

    Resident maps share addresses: their content does not matter to time, and the plan that asks has
    already seen to it that they fit. With `lead_cycles` the vector unit works for about as long
    before the subgraph begins, and meanwhile its first weights load as they do in a prefetched step.
    """
    builder = Builder(spec)
    kernel = kernels.get(subgraph.kind)
    if lead_cycles:
        _emit_lead(builder, lead_cycles)
    begun = Fence(compute_steps=1 if lead_cycles else 0)
    buffers: dict[str, int] = {}
    top = 0
    for buffer in choice.buffers:
        buffers[buffer.name] = top
        top += buffer.size_bytes
    first, last = subgraph.ops[0], subgraph.ops[-1]
    records, dram = _dram_addresses([held_bytes(op) for op in subgraph.ops if held_bytes(op)])
    operands = Operands(
        input=_blank_ref(subgraph.input, dram, first.input, input_type(first)),
        output=_blank_ref(subgraph.output, dram, last.output, output_type(last)),
        second=_blank_ref(subgraph.second, dram, subgraph.second_shape, second_type(last)) if subgraph.second else None,
        stages=_blank_stages(subgraph),
        records=records,
        extra=TensorRef(Memory.DRAM, dram, subgraph.second_shape) if subgraph.second else None,
        buffers=buffers,
        fences={b.name: begun for b in choice.buffers if b.role is not Role.WEIGHTS},
    )
    builder.begin_step(subgraph.kind, kernel.unit, Fence())
    kernel.emit(builder, subgraph, choice.tiling, operands)
    builder.end_step()
    queues, marks = builder.finish()
    largest = max(input_bytes(first), output_bytes(last))
    constants = (
        bytes(dram) if spec.flash_bytes_per_cycle else b""
    )  # where they lie matters to time, their values do not
    sram = min(spec.sram_bytes, max(top, largest))
    return Program(spec, queues, constants, dram + largest, sram, (), (), marks)


def _blank_ref(memory: Memory, dram: int, shape: Shape, dtype: DType) -> TensorRef:
    return TensorRef(memory, dram if memory is not Memory.SRAM else 0, shape, dtype=dtype)


def _blank_stages(subgraph: Subgraph) -> tuple[StageParams, ...]:
    if isinstance(subgraph.ops[0], CuboidAttention):
        return idle_stages()
    return tuple(_blank_stage(op) for op in (*subgraph.ops, subgraph.ops[-1]))


def _blank_stage(op: Op) -> StageParams:
    clamp = clamp_fields(full_range(output_name(op)), output_type(op))
    return StageParams(clamp=clamp, rescale=conv_operands(0.5, output_name(op)))


def _emit_lead(builder: Builder, cycles: int) -> None:
    """One step of vector work: the same row of elements again and again."""
    fields: dict[str, Value | int] = dict.fromkeys(FIELDS[Opcode.REQUANTISE], 0)
    fields |= {"multiplier": 2**30, "shift": 31, "in_rows": cycles, "in_cols": 1, "act_min": -128, "act_max": 127}
    fields |= {"row_count": cycles, "row_limit": cycles, "col_count": 1}
    fields |= {"chan_count": builder.spec.vector_lanes, "chan_limit": builder.spec.vector_lanes}
    builder.begin_step(LEAD, Unit.VECTOR, Fence())
    builder.emit(Unit.VECTOR, Opcode.REQUANTISE, **fields)
    builder.end_step()


def lower(graph: Graph, plan: Plan, spec: EngineSpec) -> Program:
    """The program of a planned graph.

    Raises:
        ModelError: the graph is shape-only.
    """
    return _Lowering(graph, plan, spec).program()


class _Lowering:
    def __init__(self, graph: Graph, plan: Plan, spec: EngineSpec) -> None:
        self.graph, self.plan, self.spec = graph, plan, spec
        self.holders = [n for step in plan.steps for n in step.group.nodes if held_bytes(computing(n))]
        self.packed = packed_weights(graph, plan) if spec.weight_decoder else {}
        self.records, end = _dram_addresses([self._held_bytes(n) for n in self.holders])
        self.dram: dict[str, int] = {}
        for name in graph.fixed:
            self.dram[name] = end
            end = _align(end + graph.tensors[name].size_bytes)
        self.constants_end = end
        for name in (*graph.inputs, *graph.outputs, *plan.spilled()):
            if name not in graph.views and name not in self.dram and plan.where[name] is not Memory.SRAM:
                self.dram[name] = end
                end = _align(end + graph.tensors[name].size_bytes)
        self.dram_bytes = end

    def _held_bytes(self, node: Node) -> int:
        packed = self.packed.get(node.name)
        return len(packed.data) if packed else held_bytes(computing(node))

    def program(self) -> Program:
        builder = Builder(self.spec)
        for number in range(len(self.plan.steps)):
            self._step(builder, number)
        queues, marks = builder.finish()
        ports = [tuple(self._port(name) for name in names) for names in (self.graph.inputs, self.graph.outputs)]
        return Program(
            self.spec, queues, self._constants(), self.dram_bytes, self.plan.sram_bytes, ports[0], ports[1], marks
        )

    def _step(self, builder: Builder, number: int) -> None:
        step = self.plan.steps[number]
        kernel = kernels.get(step.subgraph.kind)
        builder.begin_step(step.group.label, kernel.unit, Fence(storing_steps=self._drained_before(number)))
        kernel.emit(builder, step.subgraph, step.choice.tiling, self._operands(number, step))
        builder.end_step()

    def _operands(self, number: int, step: PlannedStep) -> Operands:
        group = step.group
        addresses = {b.name: self.plan.addresses[buffer_name(number, b)] for b in step.choice.buffers}
        fences = {b.name: self._fence(number, step, b.role, b.name) for b in step.choice.buffers}
        own = {id(node): self.records[i] for i, node in enumerate(self.holders)}
        with _naming(group.nodes[0]):
            epsilon = stage_epsilon(self.graph, group.nodes[0])
        return Operands(
            input=self._ref(group.input),
            output=self._ref(group.output),
            second=self._ref(group.second) if group.second else None,
            stages=_stages(self.graph, group),
            records=tuple(own[id(node)] for node in group.nodes if id(node) in own),
            packed={own[id(n)]: self.packed[n.name].tile_bytes for n in group.nodes if n.name in self.packed},
            epsilon=epsilon,
            second_epsilon=second_epsilon(self.graph, group.nodes[0]),
            extra=next((self._ref(name) for name in group.nodes[-1].extra), None),
            buffers=addresses,
            fences=fences,
        )

    def _fence(self, number: int, step: PlannedStep, role: Role, name: str) -> Fence:
        """A buffer may be written once everything that used its memory before is over."""
        start = number - (step.ahead if role is Role.WEIGHTS else 0)
        storing = self._drained_before(start)
        if role is Role.INCOMING:
            tensor = step.group.second if name == "second" else step.group.input
            storing = max(storing, self._stored(tensor or ""))
        return Fence(compute_steps=start, storing_steps=storing)

    def _drained_before(self, start: int) -> int:
        """How many storing steps must have drained before memory that is free from step `start` on is used."""
        return sum(s.stores and i + s.drain < start for i, s in enumerate(self.plan.steps[:start]))

    def _stored(self, tensor: str) -> int:
        """How many storing steps there are up to the one that produces `tensor` (0 for an input)."""
        makers = self.graph.makers(tensor) if tensor else ()
        made = max((i for i, s in enumerate(self.plan.steps) if not s.group.writes.isdisjoint(makers)), default=-1)
        return sum(s.stores for s in self.plan.steps[: made + 1])

    def _ref(self, name: str) -> TensorRef:
        tensor, memory = self.graph.tensors[name], self.plan.where[name]
        root = self.graph.root(name)
        address = self.plan.addresses[root] if memory is Memory.SRAM else self.dram[root]
        whole = TensorRef(memory, address, self.graph.tensors[root].shape, dtype=PORT_TYPES[tensor.dtype])
        return part_of(whole, self.graph.views.get(name), tensor)

    def _port(self, name: str) -> Port:
        tensor = self.graph.tensors[name]
        shape = tensor.host_shape or _host_shape(tensor)
        memory = "sram" if self.plan.where[name] is Memory.SRAM else "dram"
        scale, zero_point = tensor.quantisation.scale, tensor.quantisation.zero_point
        return Port(name, self._ref(name).address, shape, scale, zero_point, tensor.dtype, memory=memory)

    def _constants(self) -> bytes:
        blob = bytearray(self.constants_end)
        for address, node in zip(self.records, self.holders, strict=True):
            with _naming(node):
                data = self._constant_bytes(node)
            blob[address : address + len(data)] = data
        for name in self.graph.fixed:
            data = fixed_map(self.graph, name).tobytes()
            blob[self.dram[name] : self.dram[name] + len(data)] = data
        return bytes(blob)

    def _constant_bytes(self, node: Node) -> bytes:
        if packed := self.packed.get(node.name):
            return packed.data
        return record_bytes(self.graph, node) if isinstance(node.op, Conv2d) else function_bytes(self.graph, node)


def _stages(graph: Graph, group: Group) -> tuple[StageParams, ...]:
    first = group.nodes[0]
    for node in group.nodes:
        refuse_overflow(graph, node)
    if isinstance(first.op, CuboidAttention) and first.op.dtype == "bf16":
        return float_stages()
    if isinstance(first.op, CuboidAttention):
        return stage_params(attention_of(graph, first))
    found: list[StageParams] = []
    for node in group.nodes:
        with _naming(node):
            found.append(_stage(graph, node, group))
    return tuple(found)


@contextmanager
def _naming(node: Node) -> Iterator[None]:
    """Names the node whose numbers the engine cannot express in the `UnsupportedError` that says so."""
    try:
        yield
    except UnsupportedError as error:
        hint = error.hint or "another precision of the operator may do"
        raise UnsupportedError(error.what, where=error.where or f"node {node.name!r}", hint=hint) from error


def part_of(whole: TensorRef, view: View | None, tensor: Tensor) -> TensorRef:
    """`tensor` as the part of `whole` that `view` describes, or as all of it."""
    zero_point = tensor.quantisation.zero_point
    if view is None:
        return replace(whole, zero_point=zero_point)
    row, channel, column = whole.steps

    def apart(by: Shape) -> int:
        return by[0] * row + by[1] * column + by[2] * channel

    start = whole.address + apart(view.start)
    strides = (apart(view.row_step), channel, apart(view.col_step))
    return TensorRef(whole.memory, start, tensor.shape, zero_point, strides, whole.dtype)


def _stage(graph: Graph, node: Node, group: Group) -> StageParams:
    out = graph.tensors[node.output].quantisation
    scales = [graph.tensors[name].quantisation.scale for name in node.inputs]
    clamp = clamp_fields(node.clamp, output_type(node.op))
    if isinstance(node.op, Conv2d):
        return StageParams(out.zero_point, clamp)
    if isinstance(node.op, Add):
        return StageParams(out.zero_point, clamp, add=_add_rescales(graph, node, group))
    if isinstance(node.op, Table | Norm):  # their constants hold the scale
        return StageParams(out.zero_point, clamp)
    real = _units(computing(node), scales) / out.scale
    if isinstance(node.op, MatMul | Resize) and output_name(node.op) != "bf16":
        return StageParams(out.zero_point, clamp, rescale=conv_operands(real, output_name(node.op)))
    floats = DType.BF16 in (input_type(node.op), output_type(node.op))
    return StageParams(out.zero_point, clamp, rescale=(float_bits(real), 2) if floats else rescale_operands(real))


def _units(op: Op, scales: Sequence[float]) -> float:
    """What one unit of the value before the output stage is worth."""
    match op:
        case Mul() | MatMul():
            return scales[0] * scales[1]
        case Softmax():
            return 2.0**-15
        case Pool2d(maximum=False):
            return scales[0] / op.window.taps
        case Reduce(mode=Reduction.MEAN):
            return scales[0] / op.count
        case Resize(bilinear=True):
            return scales[0] / (op.vertical.numerator * op.horizontal.numerator)
        case _:
            return scales[0]


def _add_rescales(graph: Graph, node: Node, group: Group) -> tuple[Rescale, Rescale, Rescale]:
    """The first operand of a fused addition is the convolution's result, whatever the order in the graph."""
    names = (group.nodes[-2].output, group.second or "") if group.residual else node.inputs
    a, b = (graph.tensors[name].quantisation.scale for name in names)
    dtype = output_name(node.op)
    return _UNSCALED if dtype == "bf16" else add_operands(a, b, graph.tensors[node.output].quantisation.scale, dtype)


def _dram_addresses(sizes: Sequence[int]) -> tuple[tuple[int, ...], int]:
    addresses: list[int] = []
    end = 0
    for size in sizes:
        addresses.append(end)
        end = _align(end + size)
    return tuple(addresses), end


def _host_shape(tensor: Tensor) -> tuple[int, ...]:
    height, width, channels = tensor.shape
    return (channels,) if height == width == 1 else (channels, height, width)


def _align(address: int) -> int:
    return -(-address // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
