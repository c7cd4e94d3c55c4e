"""Runs one input through everything that reads programs of strangers, and says how it ended.

Reading, emulation under every interleaving, timing and disassembly may only return or raise a `LanefitError`.
Accesses are judged apart from the emulator's own checks, by a memory that looks at what was touched in the end.
"""

from __future__ import annotations

import random
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanefit.common.errors import LanefitError
from lanefit.export.package import parse_package, read_placements
from lanefit.targets.assembly import disassemble
from lanefit.targets.budget import RunBudget
from lanefit.targets.emulator import Emulator
from lanefit.targets.encoding import decode
from lanefit.targets.memory import Box, Memory
from lanefit.targets.program import Program
from lanefit.targets.summary import dram_map
from lanefit.targets.timing import simulate

BUDGET = RunBudget(instructions=1024, work=2**19, window_elements=2**17, memory_bytes=2**20)
OUTCOMES = ("typed_errors", "accepted", "crashes", "hangs", "out_of_bounds")
_ORDERS = ("program", "program", "dma-first", "compute-first", "random")


class HangError(BaseException):
    """An input that takes more processor time than it may; no `Exception`, so that nothing on the way catches it."""


@dataclass(slots=True)
class AccessLog:
    """Makes memories that report to it every access beyond their declared size, or into the constants."""

    outside: list[str] = field(default_factory=list)
    make: type[Memory] = Memory

    def memory(self, name: str, runs: int, size: int, initial: bytes = b"", **options: Any) -> Memory:
        """A memory of class `make` that is watched; the signature is that of `Memory`."""
        return _watched(self.make)(self, name, runs, size, initial, **options)


def corners(box: Box) -> tuple[int, int]:
    """First and last byte of a box, from the addresses of all its corners."""
    ends = [
        box.address + sum(n * s for n, s in zip(corner, box.strides, strict=True))
        for corner in product(*({0, count - 1} for count in box.counts))
    ]
    return min(ends), max(ends)


@cache
def _watched(base: type[Memory]) -> Callable[..., Memory]:
    class Watched(base):
        def __init__(self, log: AccessLog, name: str, runs: int, size: int, initial: bytes, **options: Any) -> None:
            super().__init__(name, runs, size, initial, **options)
            self._log, self._declared, self._fixed = log, size, len(initial)

        def read(self, box: Box, *rest: Any) -> NDArray[Any]:
            values = super().read(box, *rest)
            self._judge("read", box, 0)
            return values

        def write(self, box: Box, *rest: Any) -> None:
            super().write(box, *rest)
            self._judge("write", box, self._fixed)

        def _judge(self, verb: str, box: Box, lowest: int) -> None:
            low, high = corners(box)
            if low < lowest or high >= self._declared:
                self._log.outside.append(f"{verb} of {self.name} {low}..{high}, not within {lowest}..{self._declared}")

    return Watched


@dataclass(frozen=True, slots=True)
class Verdict:
    """`outcome` is one of `OUTCOMES`; `stage` is how far the input came, `detail` what was raised or touched."""

    outcome: str
    stage: str
    detail: str = ""


def judge(
    data: bytes, rng: random.Random, *, package: bool = False, seconds: float = 1.0, make: type[Memory] = Memory
) -> Verdict:
    """Reads `data` as a program or package and, where that succeeds, runs what it holds. Main thread only."""
    state = _State(AccessLog(make=make))
    try:
        with _alarm(seconds), warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy only warns where a number lost its meaning
            _exercise(state, data, rng, package)
    except HangError:
        return Verdict("hangs", state.stage, f"more than {seconds} s of processor time")
    except (Exception, SystemExit) as error:
        if not isinstance(error, LanefitError):
            return Verdict("crashes", state.stage, _last_line(error))
        state.note(error)
    if state.log.outside:
        return Verdict("out_of_bounds", state.stage, state.log.outside[0])
    if state.fault is not None:
        return Verdict("typed_errors", state.fault_stage, type(state.fault).__name__)
    return Verdict("accepted", "end")


@dataclass(slots=True)
class _State:
    log: AccessLog
    stage: str = "read"
    fault: LanefitError | None = None
    fault_stage: str = "read"

    def note(self, fault: LanefitError) -> None:
        """Keeps the first fault and where it arose."""
        if self.fault is None:
            self.fault, self.fault_stage = fault, self.stage


def _exercise(state: _State, data: bytes, rng: random.Random, package: bool) -> None:
    if package:
        found = parse_package(data)
        read_placements(found)
        programs = found.programs()
    else:
        programs = (decode(data),)
    for program in programs:
        for stage in ("emulate", "time", "list"):
            state.stage = stage
            try:
                _STAGES[stage](state, program, rng)
            except LanefitError as error:  # the other stages are tried all the same
                state.note(error)


def _emulate(state: _State, program: Program, rng: random.Random) -> None:
    order = rng.choice(_ORDERS)
    emulator = Emulator(program, order=order, seed=rng.randrange(99), budget=BUDGET, memory=state.log.memory)
    batch = rng.choice((None, None, 1, 2))
    emulator.run({port.name: _values(rng, port.shape, batch) for port in program.inputs})


def _values(rng: random.Random, shape: tuple[int, ...], batch: int | None) -> NDArray[np.int8]:
    full = shape if batch is None else (batch, *shape)
    return np.frombuffer(rng.randbytes(int(np.prod(full))), np.int8).reshape(full)


def _time(state: _State, program: Program, rng: random.Random) -> None:
    simulate(program, budget=BUDGET, trace=rng.random() < 0.1)


def _list(state: _State, program: Program, rng: random.Random) -> None:
    if rng.random() < 0.1:
        disassemble(program)
        dram_map(program)


_STAGES: dict[str, Callable[[_State, Program, random.Random], None]] = {
    "emulate": _emulate, "time": _time, "list": _list,
}  # fmt: skip


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raises `HangError` after so many seconds of processor time: a busy machine does not make a hang."""
    before = signal.signal(signal.SIGPROF, _ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _ring(*_: object) -> None:
    raise HangError


def _last_line(error: BaseException) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({place.name}, line {place.lineno} of {place.filename.rpartition('/')[2]})"
