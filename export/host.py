"""The host module: what runs around the engine, as one shared library built by TVM Relax.

Regions become calls of the packed function `lanefit.engine.run`; everything else is lowered by LLVM. The loops
are TVM's default ones, without tuning: correct for any operator, quick for none. TVM is imported on use only.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from ..common.errors import InputError, ToolchainError
from .regions import REGION, Region

ENGINE_FUNCTION = "lanefit.engine.run"
Arrays = Mapping[str, NDArray]
Engine = Callable[[int, Arrays], Arrays]  # (region number, int8 inputs with batch axis) → int8 outputs


@dataclass(frozen=True, slots=True)
class HostTarget:
    """Instruction set of the CPU part, recorded in the package."""

    triple: str
    cpu: str

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


_TARGETS = {
    "x86_64": HostTarget("x86_64-linux-gnu", "x86-64-v3"),  # AVX2 and FMA: any x86 server or PC since 2015
    "aarch64": HostTarget("aarch64-linux-gnu", "generic"),
}


def host_target() -> HostTarget:
    """The portable baseline of this machine's family, not its own newest instructions."""
    machine = platform.machine().lower()
    if machine not in _TARGETS:
        raise ToolchainError(f"no host target for {machine}", hint=f"known: {', '.join(sorted(_TARGETS))}")
    return _TARGETS[machine]


def runs_here(target: HostTarget) -> bool:
    """Whether this processor has the instructions of `target`; unknown processors are taken to have them."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return True
    return target.cpu != "x86-64-v3" or {"avx2", "fma", "bmi2"} <= set(flags.split())


def build_host(host: ModelProto, regions: Sequence[Region], target: HostTarget | None = None) -> bytes:
    """The shared library of a host model. The same model gives the same bytes with the same toolchain.

    Raises `ToolchainError` with TVM's reason when the CPU part cannot be built.
    """
    target = target or host_target()
    with tempfile.TemporaryDirectory() as folder, _muted():
        path = Path(folder) / "host.so"
        try:
            _export_library(host, regions, target, path)
        except Exception as error:  # TVM raises RuntimeError, TypeError, ValueError and classes of its own
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            hint = "the operator may be one that TVM's ONNX importer lacks"
            raise ToolchainError(f"TVM cannot build the host module: {reason}", hint=hint) from error
        return path.read_bytes()


@dataclass(frozen=True, slots=True)
class HostNames:
    """Names that a library does not carry: the model's inputs and outputs, and those of each region, in order."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    regions: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]


def host_names(host: ModelProto, regions: Sequence[Region]) -> HostNames:
    constants = {t.name for t in host.graph.initializer}
    return HostNames(
        tuple(v.name for v in host.graph.input if v.name not in constants),
        tuple(v.name for v in host.graph.output),
        tuple((region.inputs, region.outputs) for region in regions),
    )


class HostModule:
    """A loaded host library. Constructing it executes native code: only do so for packages that are to run."""

    def __init__(self, library: Path, engine: Engine, names: HostNames) -> None:
        self._engine, self._names = engine, names
        self._failure: Exception | None = None
        os.environ.setdefault("TVM_BIND_THREADS", "0")  # pinned threads would be inherited by torch and ONNX Runtime
        with _muted():
            tvm, relax = _tvm()
            tvm_ffi = importlib.import_module("tvm_ffi")
            tvm_ffi.register_global_func(ENGINE_FUNCTION, self._region, override=True)
            try:
                self._tensor = tvm.runtime.tensor
                self._machine = relax.VirtualMachine(tvm.runtime.load_module(str(library)), tvm.cpu())
                self._main = self._machine["main"]
            except (RuntimeError, AttributeError, OSError) as error:
                what = f"the host module does not load: {str(error).strip().splitlines()[0]}"
                hint = "the library belongs to another machine or toolchain; export the model again"
                raise ToolchainError(what, where=library.name, hint=hint) from error

    def __call__(self, inputs: Arrays) -> dict[str, NDArray]:
        for name in self._names.inputs:
            if name not in inputs:
                hint = f"the model takes {', '.join(self._names.inputs)}"
                raise InputError(f"no value for input {name!r}", hint=hint)
        count = len(inputs[self._names.inputs[0]])
        rows = [self._sample({n: inputs[n][i : i + 1] for n in self._names.inputs}) for i in range(count)]
        return {name: np.concatenate([row[i] for row in rows]) for i, name in enumerate(self._names.outputs)}

    def _sample(self, inputs: Arrays) -> list[NDArray]:
        arguments = [self._tensor(np.ascontiguousarray(inputs[name])) for name in self._names.inputs]
        self._failure = None
        try:
            result = self._main(*arguments)
        except Exception as error:  # TVM wraps what the engine raised
            if self._failure is not None:
                raise self._failure from None
            raise ToolchainError(f"the host module failed: {str(error).strip().splitlines()[0]}") from error
        return [result.numpy()] if hasattr(result, "numpy") else [item.numpy() for item in result]

    def _region(self, number: Any, *tensors: Any) -> None:
        """Destination-passing call: region number, inputs, outputs to be written."""
        region = int(np.from_dlpack(number)[0])
        names_in, names_out = self._names.regions[region]
        arrays = [np.from_dlpack(tensor) for tensor in tensors]
        try:
            results = self._engine(region, dict(zip(names_in, arrays, strict=False)))
            for name, destination in zip(names_out, arrays[len(names_in) :], strict=True):
                destination[...] = results[name].reshape(destination.shape)
        except Exception as error:
            self._failure = error
            raise


def _export_library(host: ModelProto, regions: Sequence[Region], target: HostTarget, path: Path) -> None:
    tvm, relax = _tvm()
    with _converters(regions):
        module = relax.frontend.onnx.from_onnx(host, keep_params_in_input=False)
    llvm = tvm.target.Target({"kind": "llvm", "mtriple": target.triple, "mcpu": target.cpu})
    built = tvm.compile(module, target=llvm, relax_pipeline=relax.get_default_pipeline(llvm))
    built.export_library(str(path))


@contextlib.contextmanager
def _converters(regions: Sequence[Region]) -> Iterator[None]:
    """Teaches the importer our region operator, and a Clip with constant bounds as one clip instead of four kernels."""
    _, relax = _tvm()
    frontend: Any = importlib.import_module("tvm.relax.frontend.onnx.onnx_frontend")
    stock = frontend._get_convert_map
    known = stock()
    made = [[region.graph.tensors[name] for name in region.outputs] for region in regions]
    types = [[relax.TensorType([1, *tensor.host_shape], tensor.dtype) for tensor in tensors] for tensors in made]

    class RegionCall(frontend.OnnxOpConverter):
        @classmethod
        def _impl_v1(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
            number = int(attr["region"])
            wanted = types[number] if len(types[number]) > 1 else types[number][0]
            index = relax.const(np.array([number], np.int32))
            return bb.emit(relax.call_dps_packed(ENGINE_FUNCTION, [index, *inputs], wanted))

    class ConstantClip(known["Clip"]):
        @classmethod
        def _impl_v13(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
            bounds = [float(item.value.numpy()) for item in inputs[1:] if hasattr(item, "value")]
            if len(bounds) < 2 or not np.isfinite(bounds).all():
                return super()._impl_v13(bb, inputs, attr, params)
            return bb.emit(relax.op.clip(inputs[0], *bounds))

    frontend._get_convert_map = lambda: {**known, REGION: RegionCall, "Clip": ConstantClip}
    try:
        yield
    finally:
        frontend._get_convert_map = stock


def _tvm() -> tuple[Any, Any]:
    """tvm and tvm.relax, untyped: their annotations name classes that their own functions do not return."""
    importlib.import_module("tvm.relax.frontend.onnx")
    return importlib.import_module("tvm"), importlib.import_module("tvm.relax")


@contextlib.contextmanager
def _muted() -> Iterator[None]:
    """Sends file descriptors 1 and 2 to nowhere: TVM's C++ side logs there, and results alone belong on stdout."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    try:
        with open(os.devnull, "wb") as sink, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            os.dup2(sink.fileno(), 1)
            os.dup2(sink.fileno(), 2)
            yield
    finally:
        for descriptor, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, descriptor)
            os.close(copy)
