"""Runs a package: the host library calls the emulated engine. This is the only place that executes a package's code."""

from __future__ import annotations

import platform
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..common.errors import InputError, PackageError, ToolchainError
from .engines import emulator_engine
from .host import Arrays, HostModule, HostNames, host_target, runs_here
from .package import HOST, Package, TensorInfo


def run_package(package: Package, inputs: Arrays) -> dict[str, NDArray]:
    """Outputs by name for samples along the leading axis of every input.

    Executes the native code in the package. Raises `InputError` for wrong names, shapes and types,
    `ToolchainError` when the library does not fit this machine, `ProgramFault` when the program misbehaves.
    """
    for info in package.manifest.inputs:
        _check(info, inputs)
    _check_machine(package.manifest.host or {})
    if HOST not in package.files:
        raise PackageError("the package has no host library", hint="export it again without leaving the host out")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / HOST
        library.write_bytes(package.files[HOST])
        return HostModule(library, emulator_engine(package.programs()), _names(package))(inputs)


def _names(package: Package) -> HostNames:
    manifest = package.manifest
    return HostNames(
        tuple(info.name for info in manifest.inputs),
        tuple(info.name for info in manifest.outputs),
        tuple((region.inputs, region.outputs) for region in manifest.regions),
    )


def _check_machine(host: dict[str, str]) -> None:
    """Native code for another machine would not load, or die of an illegal instruction."""
    if host != host_target().as_dict() or not runs_here(host_target()):
        what = f"the host library is for {host.get('triple')} with {host.get('cpu')}"
        raise ToolchainError(what, where=platform.machine(), hint="export the model again on this machine")


def _check(info: TensorInfo, inputs: Arrays) -> None:
    wanted = f"{info.dtype} (samples, {', '.join(map(str, info.shape[1:]))})"
    if info.name not in inputs:
        raise InputError(f"no value for input {info.name!r}", hint=f"give {wanted}")
    array = inputs[info.name]
    if array.dtype != np.dtype(info.dtype) or array.shape[1:] != info.shape[1:] or not len(array):
        raise InputError(f"input {info.name!r} takes {wanted}, got {array.dtype} {array.shape}")
