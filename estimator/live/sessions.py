"""Prepared models: one call is one timed run. Runners prepare them for ONNX Runtime, TVM, or a board behind RPC."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from ...common.errors import UnsupportedError
from .executed import ExecutedGraph, Value

Arrays: TypeAlias = dict[str, NDArray[np.generic]]


class Session(Protocol):
    """A model that is loaded and has its inputs."""

    def run(self) -> float:
        """Runs once and returns the latency in µs."""
        ...

    def pause(self) -> None:
        """Gives back what would disturb other sessions while this one is not running, such as spinning threads."""
        ...

    def close(self) -> None: ...


class LiveRunner(Protocol):
    """A runtime on a device. `device` and `toolchain` become part of every measurement's key."""

    @property
    def device(self) -> str: ...

    @property
    def toolchain(self) -> str: ...

    @property
    def threads(self) -> int: ...

    @property
    def graph_is_known(self) -> bool:
        """Whether `executed` gives the graph that runs; False where the runtime goes on to optimise it."""
        ...

    def executed(self, model: ModelProto) -> ExecutedGraph:
        """What the runtime executes for `model`, found without running it."""
        ...

    def prepare(self, model: ModelProto, *, sweep_bytes: int = 0) -> Session:
        """A session of a piece of an executed graph, or of all of it, with inputs.

        `sweep_bytes` of other memory are to pass through the device's caches before each run, untimed.
        Raises `ToolchainError` where the runtime refuses the model.
        """
        ...

    def ready(self) -> AbstractContextManager[None]:
        """Prepares the device for measuring (threads pinned to processors, for example) and restores it after."""
        ...

    def state(self) -> Mapping[str, str | float]:
        """What may change the device's speed: load, clock, governor, temperature, whatever can be read."""
        ...


def feeds(values: Mapping[str, Value], *, seed: int = 0) -> Arrays:
    """Inputs whose values change no operator's work: standard normal floats, zeros for indices, random bytes."""
    generator = np.random.default_rng(seed)
    return {name: _array(name, value, generator) for name, value in values.items()}


def _array(name: str, value: Value, generator: np.random.Generator) -> NDArray[np.generic]:
    if value.dtype in ("string", "bfloat16") or value.dtype.startswith(("float8", "int4", "uint4")):
        raise UnsupportedError(f"inputs of type {value.dtype} cannot be made", where=f"input {name!r}")
    dtype = np.dtype(value.dtype)
    if dtype.kind == "f":
        return generator.standard_normal(value.shape, np.float32).astype(dtype)
    if dtype.itemsize == 1 and dtype.kind in "iu":
        information = np.iinfo(dtype)
        return generator.integers(information.min, information.max, value.shape, dtype, endpoint=True)
    return np.zeros(value.shape, dtype)
