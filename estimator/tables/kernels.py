"""Tables of single operators: one row per kernel with its shape and its latency.

Columns: `conv_type` (Regular or Depthwise) or `kind`; `batch`, `cin`, `h`, `w` (extents of the input), `cout`, `k`,
`stride`; optionally `groups`, `dtype` and `elmtfused` (1 when an element-wise addition runs in the same pass) or
`fused` (such as `add relu`); one latency whose unit is in its name. Windows are padded so that a stride of 1 keeps
the extents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...common.errors import ModelError, TableError
from ..opgraph.operator import ACTIVATIONS, BYTES_PER_ELEMENT, Kind, Operator, Shape, Window, convolution_kind
from .cells import BadCell, Quantity, count, measured_column
from .problems import Problem, refuse
from .rows import Row, Table, read_table, require_columns

_CONV_TYPES = {"regular": Kind.CONV, "depthwise": Kind.DEPTHWISE}
_ELEMENTWISE = (*ACTIVATIONS, Kind.SOFTMAX, Kind.LAYER_NORM, Kind.COPY, Kind.BATCH_NORM)


@dataclass(frozen=True, slots=True)
class KernelTime:
    """One measured operator and the row that says so; of energies, `latency_us` is µJ."""

    operator: Operator
    latency_us: float
    row: int


@dataclass(frozen=True, slots=True)
class KernelTable:
    """Usable rows, and the problems of the others."""

    path: Path
    kernels: tuple[KernelTime, ...]
    problems: tuple[Problem, ...]


def read_kernels(path: Path, *, dtype: str = "float32", quantity: Quantity = Quantity.LATENCY) -> KernelTable:
    """Every row of a table; those without a `dtype` column are taken to compute in `dtype`.

    A row that is corrupt, unknown or negative, or that times an operator again, becomes a problem. `checked` refuses
    a table with problems.

    Raises:
        TableError: the file is no table, lacks a column, or its latency has no unit or several.
    """
    table = read_table(path)
    kinds = [name for name in ("conv_type", "kind") if name in table.columns]
    if len(kinds) != 1:
        raise TableError(f"{path.name} needs one column conv_type or kind", where=f"{path}:1")
    require_columns(table, ("batch", "cin", "h", "w"))
    if dtype not in BYTES_PER_ELEMENT:
        raise TableError(f"dtype {dtype!r} is none of {', '.join(BYTES_PER_ELEMENT)}", where=str(path))
    return _kernels(table, kinds[0], dtype, quantity)


def checked(table: KernelTable) -> tuple[KernelTime, ...]:
    """The kernels of a table without problems; `TableError` names the rows of any."""
    refuse(table.path, table.problems)
    return table.kernels


def _kernels(table: Table, kind_column: str, dtype: str, quantity: Quantity) -> KernelTable:
    measured = measured_column(table, quantity)
    found: dict[Operator, KernelTime] = {}
    problems = list(table.problems)
    for row in table.rows:
        try:
            operator = _operator(row, kind_column, dtype)
            kernel = KernelTime(operator, measured.micro(row), row.number)
            if operator in found:
                raise BadCell(f"the operator of row {found[operator].row} again: a key is measured once")
            found[operator] = kernel
        except (BadCell, ModelError) as error:
            text = error.what if isinstance(error, ModelError) else str(error)
            problems.append(Problem(row.number, text))
    return KernelTable(table.path, tuple(found.values()), tuple(problems))


def _operator(row: Row, kind_column: str, dtype: str) -> Operator:
    dtype = row.cells.get("dtype", dtype)
    kind = _kind(row, kind_column)
    return _BUILDERS[kind](row, kind, dtype)


def _kind(row: Row, column: str) -> str:
    text = row.cells[column].lower()
    known = _CONV_TYPES if column == "conv_type" else {str(kind): kind for kind in _BUILDERS}
    if text not in known:
        raise BadCell(f"{column} {row.cells[column]!r} is unknown; known: {', '.join(sorted(known))}")
    return known[text]


def _convolution(row: Row, kind: str, dtype: str) -> Operator:
    inputs, outputs, kernel, stride = (count(row, name) for name in _needed(row, "cin", "cout", "k", "stride"))
    groups = count(row, "groups", default=inputs if kind == Kind.DEPTHWISE else 1)
    if inputs % groups or outputs % groups:
        raise BadCell(f"{groups} groups do not divide {inputs} and {outputs} channels")
    source, result = _shapes(row, stride, outputs)
    fused = _fused(row)
    return Operator(
        convolution_kind(groups, inputs), (source, *([result] * fused.count(Kind.ADD))), result,
        Window.square(kernel, stride, kernel // 2, groups=groups), ((outputs, inputs // groups, kernel, kernel),),
        dtype, fused,
    )  # fmt: skip


def _pool(row: Row, kind: str, dtype: str) -> Operator:
    kernel, stride = (count(row, name) for name in _needed(row, "k", "stride"))
    source, result = _shapes(row, stride, count(row, "cin"))
    return Operator(kind, (source,), result, Window.square(kernel, stride, kernel // 2), (), dtype, _fused(row))


def _linear(row: Row, kind: str, dtype: str) -> Operator:
    inputs, outputs = (count(row, name) for name in _needed(row, "cin", "cout"))
    rows = count(row, "batch") * count(row, "h") * count(row, "w")
    return Operator(kind, ((rows, inputs),), (rows, outputs), None, ((outputs, inputs),), dtype, _fused(row))


def _global_pool(row: Row, kind: str, dtype: str) -> Operator:
    source, _ = _shapes(row, 1, 1)
    return Operator(kind, (source,), (*source[:2], 1, 1), None, (), dtype, _fused(row))


def _unary(row: Row, kind: str, dtype: str) -> Operator:
    source, _ = _shapes(row, 1, 1)
    return Operator(kind, (source,), source, None, (), dtype, _fused(row))


def _binary(row: Row, kind: str, dtype: str) -> Operator:
    source, _ = _shapes(row, 1, 1)
    return Operator(kind, (source, source), source, None, (), dtype, _fused(row))


_BUILDERS: Mapping[str, Callable[[Row, str, str], Operator]] = {
    Kind.CONV: _convolution, Kind.DEPTHWISE: _convolution, Kind.GROUPED: _convolution, Kind.LINEAR: _linear,
    Kind.MAX_POOL: _pool, Kind.AVERAGE_POOL: _pool, Kind.GLOBAL_POOL: _global_pool,
    Kind.ADD: _binary, Kind.MUL: _binary, **{kind: _unary for kind in _ELEMENTWISE},
}  # fmt: skip


def _needed(row: Row, *names: str) -> tuple[str, ...]:
    missing = [name for name in names if name not in row.cells]
    if missing:
        raise BadCell(f"this kind needs the column {', '.join(missing)}")
    return names


def _shapes(row: Row, stride: int, outputs: int) -> tuple[Shape, Shape]:
    batch, channels, height, width = (count(row, name) for name in ("batch", "cin", "h", "w"))
    return (batch, channels, height, width), (batch, outputs, -(-height // stride), -(-width // stride))


def _fused(row: Row) -> tuple[str, ...]:
    if "elmtfused" in row.cells:
        flag = count(row, "elmtfused", least=0)
        if flag > 1:
            raise BadCell(f"elmtfused is {flag}, not 0 or 1")
        return (Kind.ADD,) * flag
    return tuple(row.cells.get("fused", "").split())
