"""Product of two activations on the array, group by group. Maps are resident or stream in stripes of whole groups."""

from __future__ import annotations

from collections.abc import Sequence

from ..targets.cost import Work, ceil_div, matmul_work
from ..targets.isa import Opcode, Unit
from ..targets.spec import EngineSpec
from .builder import Builder, Ring, Value
from .conv import map_cycles, open_ring, tile_sizes
from .element_types import elements, output_type, second_type
from .kernel import Buffer, Estimate, Operands, Role, TensorRef, Tiling, pipelined, rows_transfer, splits, stage_fields
from .ops import MatMul, Shape
from .subgraph import Memory, Subgraph

_PREFIXES = {"input": "in", "second": "b", "output": "out"}


class MatMulKernel:
    """One product. Space: groups per stripe."""

    unit = Unit.ARRAY

    def space(self, subgraph: Subgraph, spec: EngineSpec) -> Sequence[Tiling]:
        groups, _, columns = subgraph.ops[0].output
        return [Tiling(count, columns) for count in (splits(groups) if subgraph.streams else [groups])]

    def buffers(self, subgraph: Subgraph, spec: EngineSpec, tiling: Tiling) -> tuple[Buffer, ...]:
        depth = min(2, _tiles(subgraph, tiling))
        found: list[Buffer] = []
        for name, memory, shape, size in _maps(subgraph):
            if memory is not Memory.SRAM:
                role = Role.OUTGOING if name == "output" else Role.INCOMING
                found.append(Buffer(name, role, tiling.rows * shape[1] * shape[2] * size, depth))
        return tuple(found)

    def estimate(self, subgraph: Subgraph, spec: EngineSpec, tiling: Tiling) -> Estimate:
        op = _op(subgraph)
        compute = sum(
            count * (spec.issue_cycles + product_work(op, spec, groups).cycles)
            for groups, count in tile_sizes(op.output[0], tiling.rows)
        )
        kinds, tiles = elements(op), _tiles(subgraph, tiling)
        types = {"input": kinds.first, "second": kinds.second, "output": kinds.out}
        cycles = {
            name: map_cycles(spec, memory, (tiling.rows, *shape[1:]), shape[2], types[name])
            for name, memory, shape, _ in _maps(subgraph)
        }
        first = cycles["input"] + cycles["second"]
        dma = tiles * sum(cycles.values())
        return pipelined(spec, compute, dma, first=first, last=compute / tiles, tail=cycles["output"])

    def emit(self, builder: Builder, subgraph: Subgraph, tiling: Tiling, operands: Operands) -> None:
        op = _op(subgraph)
        buffers = self.buffers(subgraph, builder.spec, tiling)
        rings = {b.name: open_ring(builder, b, operands) for b in buffers}
        assert operands.second is not None
        with builder.loop(_tiles(subgraph, tiling)) as tile:
            group = tile * tiling.rows
            views = {
                name: _view(builder, rings, name, tensor, (group, tiling.rows))
                for name, tensor in (("input", operands.input), ("second", operands.second))
            }
            slot = builder.reserve(rings["output"]) if "output" in rings else None
            views["output"] = _pitches("output", operands.output, group, slot)
            _emit(builder, op, tiling, operands, group, views)
            if slot is not None:
                builder.store(rings["output"], slot, **rows_transfer(operands.output, group, tiling.rows))


def product_work(op: MatMul, spec: EngineSpec, groups: int) -> Work:
    """Work of one instruction over some of the groups."""
    rows, depth = op.input[1:]
    return matmul_work(spec, groups, rows, op.output[2], depth, bias=False, elements=elements(op))


def _emit(
    builder: Builder,
    op: MatMul,
    tiling: Tiling,
    operands: Operands,
    group: Value,
    views: dict[str, dict[str, Value | int]],
) -> None:
    """One MATMUL over the groups of a stripe."""
    assert operands.second is not None
    columns, size = views["second"].pop("column"), second_type(op).bytes
    in_row, out_row = views["input"].pop("column"), views["output"].pop("column")
    n, k = (columns, size) if op.transposed else (size, columns)
    multiplier, shift = operands.stages[0].rescale
    fields: dict[str, Value | int] = {
        **views["input"], **views["second"], **views["output"], **stage_fields(operands.stages[0]),
        "in_pitch_m": in_row, "out_pitch_m": out_row,
        "b_pitch_n": n, "b_pitch_k": k, "in_zp": operands.input.zero_point, "b_zp": operands.second.zero_point,
        "bias_addr": -1, "bias_pitch_g0": 0, "bias_pitch_g1": 0, "bias_pitch_m": 0,
        "multiplier": multiplier, "shift": shift, "g0_start": group, "g0_count": tiling.rows,
        "g0_limit": op.output[0], "g1_count": 1, "m_count": op.output[1], "n_count": op.output[2],
        "k_count": op.input[2],
    }  # fmt: skip
    builder.emit(Unit.ARRAY, Opcode.MATMUL, **fields)


def _view(
    builder: Builder, rings: dict[str, Ring], name: str, tensor: TensorRef, span: tuple[Value, int]
) -> dict[str, Value | int]:
    """Where the groups of an operand lie, loaded first when they come from DRAM."""
    slot = builder.load(rings[name], **rows_transfer(tensor, *span)) if name in rings else None
    return _pitches(name, tensor, span[0], slot)


def _pitches(name: str, tensor: TensorRef, group: Value, slot: Value | None) -> dict[str, Value | int]:
    """Address of group `group`, its pitches, and under "column" the pitch of the rows of a matrix."""
    prefix = _PREFIXES[name]
    _, width, channels = tensor.shape
    row, column = width * channels * tensor.dtype.bytes, channels * tensor.dtype.bytes
    address: Value | int = slot if slot is not None else 0
    if slot is None:
        row, _, column = tensor.steps
        address = group * row + tensor.address
    return {
        f"{prefix}_addr": address, f"{prefix}_pitch_g0": row, f"{prefix}_pitch_g1": 0, f"{prefix}_type": tensor.dtype,
        "column": column,
    }  # fmt: skip


def _op(subgraph: Subgraph) -> MatMul:
    op = subgraph.ops[0]
    assert isinstance(op, MatMul)
    return op


def _maps(subgraph: Subgraph) -> list[tuple[str, Memory, Shape, int]]:
    """Name, memory, shape and element bytes of the three maps."""
    op = _op(subgraph)
    assert subgraph.second is not None
    kinds = elements(op)
    return [
        ("input", subgraph.input, op.input, kinds.first.bytes),
        ("second", subgraph.second, op.other, second_type(op).bytes),
        ("output", subgraph.output, op.output, output_type(op).bytes),
    ]


def _tiles(subgraph: Subgraph, tiling: Tiling) -> int:
    return ceil_div(subgraph.ops[0].output[0], tiling.rows)
