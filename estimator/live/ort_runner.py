"""ONNX Runtime on this host."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib.metadata import version
from typing import Any, Literal, cast

from onnx import ModelProto

from ...common.errors import InputError
from .executed import ExecutedGraph, Value
from .ort_graph import open_session, ort_graph, session_options
from .sessions import Arrays, feeds
from .state import host_device, host_state, pinned
from .sweep import own_processors, sweep_buffer

_AFFINITIES = "session.intra_op_thread_affinities"
_NUMPY_NAMES = {"float": "float32", "double": "float64"}


class OrtRunner:
    """Runs on `threads` processors of this host, each thread pinned to one of them while it measures.

    Args:
        threads: processors to use; more than this process may use raises `InputError`.
        level: optimisation level of whole networks: "none", "basic", "extended" or "all".
        clock: "wall", or "processor": the time that this thread was given a processor, which other programs on the
            host disturb less. Only with one thread, since other threads' work would be missing.
    """

    def __init__(self, threads: int = 1, *, level: str = "all", clock: Literal["wall", "processor"] = "wall") -> None:
        if clock == "processor" and threads != 1:
            raise InputError(f"processor time of one thread cannot tell the latency of {threads} threads")
        self._threads, self._level, self._clock = threads, level, clock
        self.processors = own_processors(threads)

    @property
    def device(self) -> str:
        return host_device()

    @property
    def toolchain(self) -> str:
        return f"onnxruntime {version('onnxruntime')}, level {self._level}, {self.threads} threads, {self._clock} time"

    @property
    def threads(self) -> int:
        return self._threads

    @property
    def graph_is_known(self) -> bool:
        return True

    def executed(self, model: ModelProto) -> ExecutedGraph:
        return ort_graph(model, level=self._level)

    def prepare(self, model: ModelProto, *, sweep_bytes: int = 0) -> OrtSession:
        clock = time.perf_counter_ns if self._clock == "wall" else time.thread_time_ns
        return OrtSession(model.SerializeToString(), self.processors, clock, sweep_bytes)

    def ready(self) -> AbstractContextManager[None]:
        return pinned(self.processors[:1])

    def state(self) -> Mapping[str, str | float]:
        return host_state()


class OrtSession:
    """A loaded model that runs without optimisation: what it is given has been optimised before.

    The runtime's own threads are pinned to `processors` after the first, which is the calling thread's. With several
    the session is closed whenever it pauses: its threads spin for long after a run, and would take the processors from
    the next session.
    """

    def __init__(self, model: bytes, processors: Sequence[int], clock: Callable[[], int], sweep: int) -> None:
        self._clock, self._model, self._processors = clock, model, processors
        self._sweep = sweep_buffer(sweep)
        self._feeds: Arrays = {}
        self._is_open = False
        self._open()
        self.pause()

    def _open(self) -> None:
        options = session_options(len(self._processors), "none")
        if others := self._processors[1:]:  # the runtime counts processors from one
            options.add_session_config_entry(_AFFINITIES, ";".join(str(number + 1) for number in others))
        self._session = open_session(self._model, options)
        self._binding = self._session.io_binding()
        shapes = {i.name: Value(tuple(i.shape), _dtype(i.type)) for i in self._session.get_inputs()}
        self._feeds = self._feeds or feeds(shapes)
        for name, array in self._feeds.items():
            self._binding.bind_cpu_input(name, array)
        for output in self._session.get_outputs():
            self._binding.bind_output(output.name)
        self._is_open = True

    def run(self) -> float:
        """Latency in µs; before each run other memory is swept through the caches, then the inputs are touched."""
        if not self._is_open:
            self._open()
        if self._sweep.size:
            self._sweep.max()
            for array in self._feeds.values():
                array.max()
        begin = self._clock()
        self._session.run_with_iobinding(self._binding)
        return (self._clock() - begin) / 1e3

    def pause(self) -> None:
        if len(self._processors) > 1:
            self.close()

    def close(self) -> None:
        self._is_open = False
        self._binding = self._session = cast(Any, None)


def _dtype(text: str) -> str:
    inner = text.removeprefix("tensor(").removesuffix(")")
    return _NUMPY_NAMES.get(inner, inner)
