"""Lists of whole networks that a user has measured: columns `onnx` and one latency, optionally `name`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .cells import BadCell, MeasuredColumn, Quantity, measured_column
from .problems import Problem, refuse
from .rows import Row, read_table, require_columns


@dataclass(frozen=True, slots=True)
class NetworkTime:
    """One measured network and the row that says so; of energies, `latency_us` is µJ."""

    name: str
    onnx: Path
    latency_us: float
    row: int


def read_networks(path: Path, *, quantity: Quantity = Quantity.LATENCY) -> tuple[NetworkTime, ...]:
    """Every network of a list; files are looked up beside the list.

    Raises:
        TableError: a row is corrupt, negative, in another unit, names a file that is not there or one given before.
    """
    table = read_table(path)
    require_columns(table, ("onnx",))
    measured = measured_column(table, quantity)
    problems, found = list(table.problems), list[NetworkTime]()
    for row in table.rows:
        try:
            found.append(_network(row, measured, path.parent))
        except BadCell as error:
            problems.append(Problem(row.number, str(error)))
    refuse(path, [*problems, *_repeated(found)])
    return tuple(found)


def _network(row: Row, measured: MeasuredColumn, folder: Path) -> NetworkTime:
    if not row.cells["onnx"]:
        raise BadCell("onnx is empty")
    onnx = folder / row.cells["onnx"]
    if not onnx.is_file():
        raise BadCell(f"{row.cells['onnx']} is no file beside the list")
    return NetworkTime(row.cells.get("name") or onnx.stem, onnx.resolve(), measured.micro(row), row.number)


def _repeated(networks: Sequence[NetworkTime]) -> list[Problem]:
    first: dict[Path, int] = {}
    found: list[Problem] = []
    for network in networks:
        if network.onnx in first:
            found.append(Problem(network.row, f"{network.onnx.name} again, see row {first[network.onnx]}"))
        first.setdefault(network.onnx, network.row)
    return found
