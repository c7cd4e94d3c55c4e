"""Cycle model: an event-driven run of the same program that the emulator executes.

Each unit executes its queue in order. An instruction is issued (`issue_cycles`), then lasts as long as the
work of `cost.py`. LOAD and STORE share one DRAM channel that serves them in the order in which they ask;
their latency is pipelined: a transfer completes `dram_latency_cycles` after the channel is free for the
next one. Where the engine has flash, loads whose `dram_addr` lies in the constants take that channel
instead. In the block dataflow ARRAY and VECTOR are queues of one engine and take turns. WAIT and SIGNAL take a
cycle, hardware loops none.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from math import ceil, isfinite

from ..common.errors import ProgramFault
from .budget import UNLIMITED, RunBudget
from .costing import Cost, Coster, sync_values
from .isa import Instruction, Opcode, Unit
from .labelling import LabelTiming, label_timings
from .program import Program
from .ranges import MAX_SEMAPHORE
from .resolve import walk
from .spec import EngineSpec
from .validate import labels, validate

_DMA_UNITS = (Unit.DMA_IN, Unit.DMA_OUT)
_ENGINE = "engine"  # what ARRAY and VECTOR share where the array and its output stage also do the vector work


@dataclass(frozen=True, slots=True)
class UnitTiming:
    """Cycles of one unit: `busy` executing, `stall` blocked on semaphores or the DRAM channel; the rest is idle."""

    unit: Unit
    busy: float
    stall: float
    instructions: int


@dataclass(frozen=True, slots=True)
class Event:
    """One executed data instruction, in cycles from the start of the program."""

    unit: Unit
    index: int
    opcode: Opcode
    label: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Timing:
    """The time of one program. The cycles of `labels` add up to `cycles`; `events` are kept only on request."""

    cycles: int
    clock_mhz: float
    parallelism: int
    units: tuple[UnitTiming, ...]
    labels: tuple[LabelTiming, ...]
    macs: int
    vector_elements: int
    dram_read_bytes: int
    dram_write_bytes: int
    events: tuple[Event, ...] = ()

    @property
    def latency_us(self) -> float:
        return self.cycles / self.clock_mhz

    @property
    def dram_bytes(self) -> int:
        """Traffic in both directions."""
        return self.dram_read_bytes + self.dram_write_bytes

    @property
    def utilisation(self) -> float:
        """Share of the array's int8 multiply-accumulates that were used."""
        return self.macs / (self.cycles * self.parallelism) if self.cycles else 0.0


def simulate(program: Program, *, trace: bool = False, budget: RunBudget = UNLIMITED) -> Timing:
    """Times a program.

    Raises `PackageError` when it is malformed, `ProgramFault` when it deadlocks or exceeds the `budget`.
    """
    budget.check_instructions(validate(program))
    return _Simulation(program, trace).run()


def lower_bound_cycles(macs: int, dram_bytes: int, vector_elements: int, spec: EngineSpec) -> float:
    """The roofline: no program with this work takes fewer cycles. `vector_elements` counts operands read, and
    `dram_bytes` what crosses the DRAM and the flash channel."""
    return max(
        macs / (spec.parallelism * spec.int8_rate),
        dram_bytes / (spec.dram_bytes_per_cycle + spec.flash_bytes_per_cycle),
        vector_elements / spec.vector_lanes,
    )


class _Queue:
    """One unit at work: `clock` is when it can take the next instruction, `done` when all it took are complete."""

    __slots__ = ("busy", "clock", "costers", "count", "done", "ends", "labels", "stall", "starts", "unit", "walk")

    def __init__(self, program: Program, unit: Unit) -> None:
        queue = program.queues[unit]
        self.unit, self.walk = unit, walk(queue)
        self.labels = labels(program.marks, unit, len(queue))
        self.costers = [_coster(program, unit, index) for index in range(len(queue))]
        self.clock = self.done = self.busy = self.stall = 0.0
        self.count = 0
        self.starts: dict[str, float] = {}
        self.ends: dict[str, float] = {}


def _coster(program: Program, unit: Unit, index: int) -> Coster | None:
    instruction = program.queues[unit][index]
    if instruction.opcode < Opcode.LOAD:
        return None
    try:
        return Coster(program.spec, instruction, constants=_is_flash(program, instruction))
    except ProgramFault as fault:
        raise _located(fault, unit, index) from None


def _is_flash(program: Program, instruction: Instruction) -> bool:
    if not program.spec.flash_bytes_per_cycle or instruction.opcode not in (Opcode.LOAD, Opcode.LOAD_SPARSE):
        return False
    return 0 <= instruction.named()["dram_addr"] < len(program.constants)


def _located(fault: ProgramFault, unit: Unit, index: int) -> ProgramFault:
    return ProgramFault(fault.what, where=f"{unit.name} instruction {index}")


class _Simulation:
    """A heap holds what happens next: a unit continues, or tokens arrive at a semaphore (unit −1)."""

    def __init__(self, program: Program, trace: bool) -> None:
        self._program, self._spec = program, program.spec
        self._queues = [_Queue(program, unit) for unit in Unit]
        self._heap: list[tuple[float, int, int, int, int]] = []
        self._sequence = 0
        self._semaphores = [0] * program.spec.semaphores
        self._waiting: dict[int, list[tuple[int, int, int]]] = {}
        self._free = {"dram": 0.0, "flash": 0.0, _ENGINE: 0.0}  # from when on the next instruction can have it
        self._events: list[Event] | None = [] if trace else None

    def run(self) -> Timing:
        for queue in self._queues:
            self._push(0.0, queue.unit)
        while self._heap:
            time, _, unit, semaphore, count = heappop(self._heap)
            if unit >= 0:
                self._advance(self._queues[unit])
            else:
                self._arrive(time, semaphore, count)
        if any(self._waiting.values()):
            raise self._deadlock()
        return self._result()

    def _push(self, time: float, unit: int, semaphore: int = 0, count: int = 0) -> None:
        self._sequence += 1
        heappush(self._heap, (time, self._sequence, unit, semaphore, count))

    def _advance(self, queue: _Queue) -> None:
        """Executes until the unit blocks, ends, or gets ahead of the next event."""
        heap = self._heap
        for index, counters in queue.walk:
            coster = queue.costers[index]
            if coster is not None:
                self._execute(queue, index, coster.fixed or self._cost(queue, index, counters))
            elif not self._synchronise(queue, index, counters):
                return
            queue.ends[queue.labels[index]] = max(queue.clock, queue.done)
            if heap and heap[0][0] < queue.clock:
                self._push(queue.clock, queue.unit)
                return

    def _cost(self, queue: _Queue, index: int, counters: list[int]) -> Cost:
        coster = queue.costers[index]
        assert coster is not None
        try:
            return coster.at(counters)
        except ProgramFault as fault:
            raise _located(fault, queue.unit, index) from None

    def _execute(self, queue: _Queue, index: int, cost: Cost) -> None:
        cost.hits += 1
        begin = queue.clock
        start = begin + self._spec.issue_cycles
        latency = 0
        shared = self._shared(queue.unit, cost) if cost.cycles else None
        if shared is not None:
            queue.stall += max(0.0, self._free[shared] - start)
            start = max(start, self._free[shared])
            self._free[shared] = start + cost.cycles
        if shared is not None and shared != _ENGINE:
            latency = self._spec.flash_latency_cycles if shared == "flash" else self._spec.dram_latency_cycles
        queue.clock = start + cost.cycles
        queue.done = max(queue.done, queue.clock + latency)
        queue.busy += self._spec.issue_cycles + cost.cycles
        queue.count += 1
        label = queue.labels[index]
        queue.starts.setdefault(label, begin)
        if self._events is not None:
            opcode = self._program.queues[queue.unit][index].opcode
            self._events.append(Event(queue.unit, index, opcode, label, begin, queue.clock + latency))

    def _shared(self, unit: Unit, cost: Cost) -> str | None:
        """What the instruction needs for itself alone: a memory channel, or the engine of the block dataflow."""
        if unit in _DMA_UNITS:
            return "flash" if cost.work.flash else "dram"
        return _ENGINE if self._spec.dataflow == "block" else None

    def _synchronise(self, queue: _Queue, index: int, counters: list[int]) -> bool:
        """WAIT or SIGNAL; False when the unit blocks."""
        instruction = self._program.queues[queue.unit][index]
        try:
            semaphore, count = sync_values(instruction, counters, len(self._semaphores))
        except ProgramFault as fault:
            raise _located(fault, queue.unit, index) from None
        queue.clock += 1
        queue.busy += 1
        if instruction.opcode is Opcode.SIGNAL:
            self._push(max(queue.clock, queue.done), -1, semaphore, count)
        elif self._semaphores[semaphore] >= count:
            self._semaphores[semaphore] -= count
        else:
            self._waiting.setdefault(semaphore, []).append((queue.unit, index, count))
            return False
        return True

    def _arrive(self, time: float, semaphore: int, count: int) -> None:
        """Adds tokens, and lets units continue in the order in which they began to wait."""
        total = self._semaphores[semaphore] + count
        if total > MAX_SEMAPHORE:
            raise ProgramFault(f"semaphore {semaphore} counts to {total}, beyond {MAX_SEMAPHORE}")
        still: list[tuple[int, int, int]] = []
        for unit, index, needed in self._waiting.get(semaphore, ()):
            if needed > total:
                still.append((unit, index, needed))
                continue
            total -= needed
            self._resume(self._queues[unit], index, time)
        self._semaphores[semaphore], self._waiting[semaphore] = total, still

    def _resume(self, queue: _Queue, index: int, time: float) -> None:
        queue.stall += max(0.0, time - queue.clock)
        queue.clock = max(queue.clock, time)
        queue.ends[queue.labels[index]] = max(queue.clock, queue.done)
        self._push(queue.clock, queue.unit)

    def _deadlock(self) -> ProgramFault:
        blocked = [
            f"{Unit(unit).name} instruction {index} waits for {count} of semaphore {semaphore}, "
            f"which has {self._semaphores[semaphore]}"
            for semaphore, waiting in self._waiting.items()
            for unit, index, count in waiting
        ]
        return ProgramFault("deadlock: " + "; ".join(sorted(blocked)))

    def _result(self) -> Timing:
        queues, spec = self._queues, self._spec
        end = max(max(queue.clock, queue.done) for queue in queues)
        if not isfinite(end):
            raise ProgramFault("the program takes more cycles than a number can hold", hint="check the engine's rates")
        cycles = ceil(end)
        found = label_timings(self._program.marks, queues, cycles, spec.issue_cycles)
        return Timing(
            cycles=cycles,
            clock_mhz=spec.clock_mhz,
            parallelism=spec.parallelism,
            units=tuple(UnitTiming(q.unit, q.busy, q.stall, q.count) for q in queues),
            labels=found,
            macs=sum(label.macs for label in found),
            vector_elements=sum(label.vector_elements for label in found),
            dram_read_bytes=sum(label.dram_read_bytes for label in found),
            dram_write_bytes=sum(label.dram_write_bytes for label in found),
            events=tuple(self._events or ()),
        )
