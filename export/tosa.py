"""The operator graph as a TOSA 1.0 file, and the TOSA reference model as an oracle for it.

    blob = to_tosa(region.graph)              # a .tosa flatbuffer that any TOSA tool reads
    run_tosa(region.graph, {"input": maps})   # what TOSA's own reference model makes of it

The file says what the engine computes to the last bit: `tests/export/test_tosa.py` holds the emulated engine
and the reference model equal. Maps are (batch, height, width, channels) inside it. Needs `tosa-tools`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np

from ..common.errors import ToolchainError, UnsupportedError
from ..kernels.function_ops import Mul, Reduce, Resize, Softmax, Table
from ..kernels.movement_ops import (
    Concat,
    DepthToSpace,
    Pad,
    Rearrange,
    Slice,
    SpaceToDepth,
    Transpose,
    TransposedConv2d,
)
from ..kernels.ops import Add, Conv2d, MatMul, Pool2d, Requantise
from ..kernels.reference import Map
from . import tosa_functions, tosa_movement, tosa_operators
from .functions import fixed_map
from .graph import Graph, Node
from .tosa_writer import TosaWriter, Value, tosa_package

Translate: TypeAlias = Callable[[TosaWriter, Graph, Node, Sequence[Value]], Value]
_OPERATORS: dict[type, Translate] = {
    Conv2d: tosa_operators.conv2d,
    Pool2d: tosa_operators.pool2d,
    Add: tosa_operators.add,
    Requantise: tosa_operators.requantise,
    MatMul: tosa_operators.matmul,
    Table: tosa_functions.table,
    Mul: tosa_functions.mul,
    Softmax: tosa_functions.softmax,
    Reduce: tosa_functions.reduce,
    Resize: tosa_functions.resize,
    Concat: tosa_movement.concat,
    Slice: tosa_movement.part,
    Pad: tosa_movement.pad,
    Transpose: tosa_movement.transpose,
    Rearrange: tosa_movement.rearranged,
    DepthToSpace: tosa_movement.blocks,
    SpaceToDepth: tosa_movement.blocks,
    TransposedConv2d: tosa_movement.transposed_conv2d,
}
_VALID, _INEXACT = "TOSA_VALID", "bf16"


def has_tosa_form(graph: Graph) -> bool:
    """Whether `to_tosa` takes the graph; one with views has lost the operators that moved its maps."""
    known = all(type(node.op) in _OPERATORS for node in graph.nodes)
    return known and not graph.views and all(tensor.dtype != _INEXACT for tensor in graph.tensors.values())


def to_tosa(graph: Graph, *, batch: int = 1) -> bytes:
    """`graph` as a TOSA flatbuffer with inputs and outputs in its own order, named as its tensors.

    Raises:
        UnsupportedError: an operator has no TOSA form, or the graph has shapes but no weights.
        ToolchainError: tosa-tools is not installed.
    """
    for tensor in graph.tensors.values():
        if tensor.dtype == _INEXACT:
            hint = "TOSA leaves the order of its sums open, so that no file could have the engine's bits"
            raise UnsupportedError("bf16 maps have no TOSA form", where=f"map {tensor.name!r}", hint=hint)
    if graph.views:
        raise UnsupportedError("maps inside of maps have no TOSA form", hint="write the graph before it is planned")
    writer = TosaWriter()
    values = {
        name: writer.input(name, (batch, *graph.tensors[name].shape), tosa_operators.tosa_type(graph, name))
        for name in graph.inputs
    }
    for name in graph.fixed:
        elements = np.broadcast_to(fixed_map(graph, name), (batch, *graph.tensors[name].shape))
        values[name] = writer.constant(elements, "INT8")
    for node in graph.nodes:
        translate = _OPERATORS.get(type(node.op))
        if translate is None:
            raise UnsupportedError(
                f"{type(node.op).__name__} has no TOSA form",
                where=f"node {node.name!r}",
                hint=f"those with one: {', '.join(sorted(kind.__name__ for kind in _OPERATORS))}",
            )
        values[node.output] = translate(writer, graph, node, [values[name] for name in node.inputs])
    for name in graph.outputs:
        writer.output(values[name], name)
    return writer.serialise()


def run_tosa(graph: Graph, inputs: Mapping[str, Map]) -> dict[str, Map]:
    """Outputs of the TOSA reference model by tensor name, for int8 or int16 maps (batch, height, width, channels).

    Raises:
        ToolchainError: the reference model refuses the graph, or calls its result unpredictable.
    """
    arrays = [np.ascontiguousarray(inputs[name]) for name in graph.inputs]
    blob = to_tosa(graph, batch=len(arrays[0]))
    model = tosa_package("tosa_reference_model")
    with _captured() as said:
        try:
            outputs, status = model.run(blob, arrays, verbosity="LOW")
        except (ValueError, RuntimeError) as error:
            raise ToolchainError(
                f"the TOSA reference model refuses the graph: {error}: {said()}", where="TOSA"
            ) from error
        if status.name != _VALID:
            raise ToolchainError(f"the TOSA reference model says {status.name}: {said()}", where="TOSA")
    return dict(zip(graph.outputs, outputs, strict=True))


@contextmanager
def _captured() -> Iterator[Callable[[], str]]:
    """Keeps what native code prints off the terminal; the yielded function tells its last lines."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield lambda: _tail(file.fileno())
        finally:
            for target, saved in enumerate(kept, start=1):
                os.dup2(saved, target)
                os.close(saved)


def _tail(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    text = os.pread(descriptor, 600, max(0, size - 600)).decode(errors="replace")
    return " ".join(text.split()[-40:])
