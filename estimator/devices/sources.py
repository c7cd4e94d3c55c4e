"""What a user has measured, from CSV files and the ONNX files that they name."""

from __future__ import annotations

from pathlib import Path

from ...common.errors import LanefitError, TableError
from ..opgraph.onnx_reader import read_onnx
from ..tables.cells import Quantity
from ..tables.kernels import checked, read_kernels
from ..tables.networks import NetworkTime, read_networks
from ..tables.problems import Problem, refuse
from .fitting import MeasuredNetwork, Measurements


def read_measurements(
    kernels: Path | None,
    networks: Path | None,
    *,
    dtype: str = "float32",
    quantity: Quantity = Quantity.LATENCY,
) -> Measurements:
    """The measurements in a table of operators, a list of networks, or both.

    dtype: of operators whose table does not say. quantity: which columns are read.

    Raises:
        TableError: neither file is given, rows cannot be used, or a network cannot be read; with row numbers.
    """
    if kernels is None and networks is None:
        raise TableError("nothing to calibrate from", hint="give a table of operators, a list of networks, or both")
    sources: dict[str, int] = {}
    found_kernels = checked(read_kernels(kernels, dtype=dtype, quantity=quantity)) if kernels is not None else ()
    found_networks = _networks(networks, quantity) if networks is not None else ()
    if kernels is not None:
        sources[kernels.name] = len(found_kernels)
    if networks is not None:
        sources[networks.name] = len(found_networks)
    return Measurements(found_kernels, found_networks, sources, quantity)


def _networks(path: Path, quantity: Quantity) -> tuple[MeasuredNetwork, ...]:
    problems, found, seen = list[Problem](), list[MeasuredNetwork](), dict[str, NetworkTime]()
    for row in read_networks(path, quantity=quantity):
        try:
            graph = read_onnx(row.onnx)
        except LanefitError as error:
            problems.append(Problem(row.row, f"{row.onnx.name}: {error.what}"))
            continue
        first = seen.setdefault(graph.digest(), row)
        if first is not row:
            problems.append(Problem(row.row, f"{row.onnx.name} is the network of row {first.row} again"))
        found.append(MeasuredNetwork(row.name, graph, row.latency_us))
    refuse(path, problems)
    return tuple(found)
