"""TVM on this host, and on a board behind TVM's RPC server.

The CPU libraries are those of packages (`export/host.py`). A server behind RPC runs any native code that it is sent,
without asking who sends it: reach it through loopback or an SSH tunnel only.
"""

from __future__ import annotations

import importlib
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from onnx import ModelProto, TensorProto, helper

from ...common.errors import InputError, ToolchainError
from ...export.host import HostTarget, build_host, host_target
from ...export.onnx_model import OPSET
from .executed import ExecutedGraph, Value
from .ort_graph import ort_graph
from .sessions import Arrays, feeds
from .state import host_device, host_state, pinned
from .sweep import own_processors, sweep_buffer

_SESSION_SECONDS = 600
_MAIN = "main"


class TvmRunner:
    """TVM's CPU code on one processor of this host. Its loops are not tuned, and do not use several threads."""

    def __init__(self, threads: int = 1, *, clock: Literal["wall", "processor"] = "wall") -> None:
        if threads != 1:
            raise InputError(f"TVM's untuned loops run on one thread, not on {threads}", hint="--threads 1")
        self.processors, self._clock = own_processors(threads), clock

    @property
    def device(self) -> str:
        return host_device()

    @property
    def toolchain(self) -> str:
        return f"apache-tvm {version('apache-tvm')}, {host_target().cpu}, 1 thread, {self._clock} time"

    @property
    def threads(self) -> int:
        return 1

    @property
    def graph_is_known(self) -> bool:
        return False  # TVM joins and leaves out operators after this

    def executed(self, model: ModelProto) -> ExecutedGraph:
        return tvm_graph(model)

    def prepare(self, model: ModelProto, *, sweep_bytes: int = 0) -> TvmSession:
        clock = time.perf_counter_ns if self._clock == "wall" else time.thread_time_ns
        return TvmSession(model, clock, sweep_bytes)

    def ready(self) -> AbstractContextManager[None]:
        return pinned(self.processors)

    def state(self) -> Mapping[str, str | float]:
        return host_state()


class TvmSession:
    """A model in TVM's virtual machine in this process."""

    def __init__(self, model: ModelProto, clock: Callable[[], int], sweep_bytes: int) -> None:
        tvm, relax = _tvm()
        self._clock, self._sweep = clock, sweep_buffer(sweep_bytes)
        self._arrays = list(_inputs(model).values())
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.so"
            path.write_bytes(build_host(model, ()))
            self._machine = relax.VirtualMachine(tvm.runtime.load_module(str(path)), tvm.cpu())
        self._main: Any = self._machine[_MAIN]
        self._tensors = [tvm.runtime.tensor(array) for array in self._arrays]

    def run(self) -> float:
        """Latency in µs; before each run other memory is swept through the caches, then the inputs are touched."""
        if self._sweep.size:
            self._sweep.max()
            for tensor in self._tensors:
                np.from_dlpack(tensor).max()
        begin = self._clock()
        self._main(*self._tensors)
        return (self._clock() - begin) / 1e3

    def pause(self) -> None:
        """Nothing runs on between runs."""

    def close(self) -> None:
        del self._main, self._machine, self._tensors


class TvmRpcRunner:
    """TVM's CPU code on a board.

    Args:
        name: of the board, for the keys of measurements.
        host, port: where `python -m tvm.exec.rpc_server` listens, or the tracker if `key` is given.
        key: of the board at a tracker.
        target: instruction set of the board; that of this machine's family where absent.

    Raises:
        ToolchainError: nobody answers there.
    """

    def __init__(
        self, name: str, host: str, port: int, *, key: str | None = None, target: HostTarget | None = None
    ) -> None:
        self._name, self._target = name, target or host_target()
        self._remote = _connect(host, port, key)
        self._count = 0
        self._sweepers: dict[int, TvmRpcSession] = {}

    @property
    def device(self) -> str:
        return self._name

    @property
    def toolchain(self) -> str:
        return f"apache-tvm {version('apache-tvm')}, {self._target.cpu}, RPC"

    @property
    def threads(self) -> int:
        return 1

    @property
    def graph_is_known(self) -> bool:
        return False  # TVM joins and leaves out operators after this

    def executed(self, model: ModelProto) -> ExecutedGraph:
        return tvm_graph(model)

    def prepare(self, model: ModelProto, *, sweep_bytes: int = 0) -> TvmRpcSession:
        return self._session(model, self._sweeper(sweep_bytes) if sweep_bytes else None)

    def ready(self) -> AbstractContextManager[None]:
        return nullcontext()  # the board's processors are its server's business

    def state(self) -> Mapping[str, str | float]:
        return {"address": str(self._remote), "measured_by": "time_evaluator of the server"}

    def _session(self, model: ModelProto, sweeper: TvmRpcSession | None) -> TvmRpcSession:
        self._count += 1
        library = build_host(model, (), self._target)
        return TvmRpcSession(self._remote, f"model{self._count}.so", library, _inputs(model), sweeper)

    def _sweeper(self, size_bytes: int) -> TvmRpcSession:
        """A model that reads so many bytes, rounded up to a power of two so that few are built."""
        rounded = 1 << (size_bytes - 1).bit_length()
        if rounded not in self._sweepers:
            self._sweepers[rounded] = self._session(_reader(rounded // 4), None)
        return self._sweepers[rounded]


class TvmRpcSession:
    """A model on the board; the server's own clock times it, so that the network does not count."""

    def __init__(self, remote: Any, name: str, library: bytes, arrays: Arrays, sweeper: TvmRpcSession | None) -> None:
        tvm, relax = _tvm()
        self._sweeper = sweeper
        try:
            remote.upload(bytearray(library), target=name)
            self._device = remote.cpu(0)
            self._machine = relax.VirtualMachine(remote.load_module(name), self._device)
            tensors = [tvm.runtime.tensor(array, self._device) for array in arrays.values()]
            self._machine.set_input(_MAIN, *tensors)
            self._timer = self._machine.time_evaluator("invoke_stateful", self._device, number=1, repeat=1)
        except Exception as error:  # TVM raises RuntimeError and classes of its own
            raise _refused(error) from error

    def run(self) -> float:
        """Latency in µs by the board's clock."""
        try:
            if self._sweeper is not None:
                self._sweeper.run()
            return float(self._timer(_MAIN).results[0]) * 1e6
        except Exception as error:
            raise _refused(error) from error

    def pause(self) -> None:
        """Nothing runs on between runs."""

    def close(self) -> None:
        del self._timer, self._machine


def tvm_graph(model: ModelProto) -> ExecutedGraph:
    """The operators that TVM is given: constants folded and normalisation fused, layouts and activations as they are.

    TVM fuses element-wise operators into the loops of others; measured in pieces, they cost what they add there.
    """
    return ort_graph(model, level="basic")


def _inputs(model: ModelProto) -> Arrays:
    constants = {tensor.name for tensor in model.graph.initializer}
    values = {}
    for item in model.graph.input:
        if item.name not in constants:
            kind = item.type.tensor_type
            dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type)).name
            values[item.name] = Value(tuple(d.dim_value for d in kind.shape.dim), dtype)
    return feeds(values)


def _reader(elements: int) -> ModelProto:
    node = helper.make_node("ReduceMax", ["input"], ["output"], name="read", keepdims=1)
    graph = helper.make_graph(
        [node],
        "reader",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [elements])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def _connect(host: str, port: int, key: str | None) -> Any:
    rpc = cast(Any, importlib.import_module("tvm.rpc"))
    try:
        if key is None:
            return rpc.connect(host, port, session_timeout=_SESSION_SECONDS)
        return rpc.connect_tracker(host, port).request(key, session_timeout=_SESSION_SECONDS)
    except Exception as error:
        hint = "start `python -m tvm.exec.rpc_server` on the board, and forward its port"
        what = f"no board answers at {host}:{port}: {_reason(error)}"
        raise ToolchainError(what, hint=hint) from error


def _refused(error: Exception) -> ToolchainError:
    return ToolchainError(f"the board failed: {_reason(error)}", hint="is the target its instruction set?")


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


@lru_cache(maxsize=1)
def _tvm() -> tuple[Any, Any]:
    return importlib.import_module("tvm"), importlib.import_module("tvm.relax")
