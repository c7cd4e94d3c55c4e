"""The tile language: load, compute and store over named tiles, inside hardware loops.

A kernel reads as one sequential program. The builder spreads it over the queues of the four
units and adds every semaphore that the program order implies:

* a `Ring` of `depth` slots carries tiles from one unit to another (depth 2 is double buffering);
  `full` counts tiles that wait to be read, `free` counts slots that may be overwritten;
* a tile is released when the loop body that acquired it ends;
* steps (subgraphs) follow each other on the compute units, while DMA_IN runs ahead as far as
  the memory plan permits (`Ring.after`) and DMA_OUT drains behind.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from ..common.errors import UnsupportedError
from ..targets.isa import FIELDS, MAX_LOOPS, NO_LIMIT, DType, Instruction, Opcode, Step, Unit
from ..targets.program import Mark
from ..targets.spec import EngineSpec

_Counters: TypeAlias = tuple[int, int, int, int]
_Term: TypeAlias = tuple[_Counters, int, int]  # coefficients, increment, modulo


@dataclass(frozen=True, slots=True)
class Value:
    """An integer that may depend on loop counters: base + Σ increment × (coefficients · L [mod modulo])."""

    base: int = 0
    terms: tuple[_Term, ...] = ()

    def __add__(self, other: Value | int) -> Value:
        if isinstance(other, int):
            return Value(self.base + other, self.terms)
        return Value(self.base + other.base, self.terms + other.terms)

    def __mul__(self, factor: int) -> Value:
        return Value(self.base * factor, tuple((c, i * factor, m) for c, i, m in self.terms) if factor else ())


@dataclass(frozen=True, slots=True)
class Fence:
    """What must have finished before a ring may be written: so many compute steps, so many storing steps."""

    compute_steps: int = 0
    storing_steps: int = 0


@dataclass(slots=True)
class Ring:
    """`depth` slots of `slot_bytes` from `address` on, between one producer and one consumer unit."""

    address: int
    slot_bytes: int
    depth: int
    producer: Unit
    consumer: Unit
    full: int = -1
    free: int = -1


@dataclass(slots=True)
class _Scope:
    level: int | None
    count: int
    starts: dict[Unit, int]
    releases: list[tuple[Unit, int]] = field(default_factory=list)


class Builder:
    """Collects the four queues of one program."""

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self.queues: dict[Unit, list[Instruction]] = {unit: [] for unit in Unit}
        self.marks: list[Mark] = []
        self._scopes: list[_Scope] = []
        self._semaphores: dict[tuple[object, ...], int] = {}
        self._credits: list[tuple[Unit, int, int]] = []
        self._step = 0
        self._rings_in_step: dict[tuple[object, ...], int] = defaultdict(int)
        self._awaited: dict[tuple[str, Unit], int] = defaultdict(int)
        self._last_compute: Unit | None = None
        self._stores = False

    # --- steps -------------------------------------------------------------------------------

    def begin_step(self, label: str, unit: Unit, after: Fence) -> None:
        """Starts a subgraph that computes on `unit`, whose writes to SRAM must stay behind `after`."""
        self._rings_in_step.clear()
        self._stores = False
        self.marks.extend(Mark(u, len(self.queues[u]), label) for u in Unit)
        if self._last_compute not in (None, unit):
            chain = self._semaphore("chain", self._last_compute, unit)
            self.emit(self._last_compute, Opcode.SIGNAL, semaphore=chain, count=1)
            self.emit(unit, Opcode.WAIT, semaphore=chain, count=1)
        self._await("stored", unit, after.storing_steps)
        self._last_compute = unit
        self._scopes = [_Scope(None, 1, {})]

    def end_step(self) -> None:
        """Releases the tiles of the step and tells the DMA queues that it is over."""
        self._release(self._scopes.pop())
        assert self._last_compute is not None
        self.emit(self._last_compute, Opcode.SIGNAL, semaphore=self._semaphore("computed", Unit.DMA_IN), count=1)
        if self._stores:
            for unit in (Unit.DMA_IN, Unit.ARRAY, Unit.VECTOR):
                self.emit(Unit.DMA_OUT, Opcode.SIGNAL, semaphore=self._semaphore("stored", unit), count=1)
        self._step += 1

    def finish(self) -> tuple[dict[Unit, tuple[Instruction, ...]], tuple[Mark, ...]]:
        """The queues with the initial credits of every ring in front, and the marks moved accordingly."""
        prologue: dict[Unit, list[Instruction]] = {unit: [] for unit in Unit}
        for unit, semaphore, count in self._credits:
            prologue[unit].append(Instruction(Opcode.SIGNAL, (semaphore, count)))
        queues = {unit: (*prologue[unit], *self.queues[unit]) for unit in Unit}
        seen: set[Unit] = set()
        marks: list[Mark] = []
        for mark in self.marks:
            shift = len(prologue[mark.unit]) if mark.unit in seen else 0
            seen.add(mark.unit)
            marks.append(Mark(mark.unit, mark.index + shift, mark.label))
        return queues, tuple(marks)

    # --- loops -------------------------------------------------------------------------------

    @contextmanager
    def loop(self, count: int) -> Iterator[Value]:
        """A hardware loop on every unit that does something in the body; yields the counter."""
        level = sum(scope.level is not None for scope in self._scopes) if count > 1 else None
        if level is not None and level >= MAX_LOOPS:
            raise UnsupportedError(f"loops nest deeper than {MAX_LOOPS}")
        scope = _Scope(level, count, {unit: len(queue) for unit, queue in self.queues.items()})
        self._scopes.append(scope)
        yield Value() if level is None else Value(0, ((_unit_vector(level), 1, 0),))
        self._release(self._scopes.pop())
        if level is None:
            return
        for unit, start in scope.starts.items():
            queue = self.queues[unit]
            if len(queue) > start:
                queue.insert(start, Instruction(Opcode.LOOP, (count,)))
                queue.append(Instruction(Opcode.END))

    # --- tiles -------------------------------------------------------------------------------

    def ring(self, address: int, slot_bytes: int, depth: int, producer: Unit, consumer: Unit, after: Fence) -> Ring:
        """A ring whose memory is free once `after` has passed; call it outside of loops, before its first use."""
        if producer is Unit.DMA_IN:
            self._await("computed", producer, after.compute_steps)
            self._await("stored", producer, after.storing_steps)
        return Ring(address, slot_bytes, depth, producer, consumer)

    def load(self, ring: Ring, **fields: Value | int) -> Value:
        """DRAM → the next slot of `ring`; returns the slot's address for use in the current loop body."""
        address = self._acquire(ring)
        self.emit(Unit.DMA_IN, Opcode.LOAD, **{**_UNCLIPPED, **fields, "sram_addr": address})
        self._publish(ring)
        return address

    def load_sparse(self, ring: Ring, **fields: Value | int) -> Value:
        """As `load`, of bytes that lie in DRAM without their zeros."""
        address = self._acquire(ring)
        self.emit(Unit.DMA_IN, Opcode.LOAD_SPARSE, **{**fields, "sram_addr": address})
        self._publish(ring)
        return address

    def reserve(self, ring: Ring) -> Value:
        """The slot that the compute unit may fill next; `store` hands it on."""
        return self._acquire(ring)

    def store(self, ring: Ring, slot: Value, **fields: Value | int) -> None:
        """The slot → DRAM."""
        self._stores = True
        self._publish(ring)
        self.emit(Unit.DMA_OUT, Opcode.STORE, **{**_UNCLIPPED, **fields, "sram_addr": slot})

    def stores(self) -> None:
        """Says that the step has stores that were emitted without `store`."""
        self._stores = True

    # --- flows -------------------------------------------------------------------------------

    def flow(self, producer: Unit, consumer: Unit, depth: int) -> Ring:
        """`depth` counted slots between two units whose loops differ, so that each call of `acquire` (wait for a
        free slot), `publish` (it is full), `receive` (wait for a full one) and `release` (it is free) is explicit.

        All of a flow must be acquired, published, received and released equally often within the step."""
        ring = Ring(0, 0, depth, producer, consumer)
        self._open(ring, reused=True)
        return ring

    def acquire(self, ring: Ring) -> None:
        self.emit(ring.producer, Opcode.WAIT, semaphore=ring.free, count=1)

    def publish(self, ring: Ring) -> None:
        self.emit(ring.producer, Opcode.SIGNAL, semaphore=ring.full, count=1)

    def receive(self, ring: Ring) -> None:
        self.emit(ring.consumer, Opcode.WAIT, semaphore=ring.full, count=1)

    def release(self, ring: Ring) -> None:
        self.emit(ring.consumer, Opcode.SIGNAL, semaphore=ring.free, count=1)

    def emit(self, unit: Unit, opcode: Opcode, **fields: Value | int) -> None:
        """Appends one instruction; every field of the opcode must be given, save element types: these are INT8."""
        values: list[int] = []
        steps: list[Step] = []
        for number, name in enumerate(FIELDS[opcode]):
            value = fields.pop(name, DType.INT8) if name.endswith("_type") else fields.pop(name)
            if isinstance(value, int):
                values.append(int(value))
                continue
            values.append(value.base)
            steps.extend(Step(number, c, i, m) for c, i, m in _merged(value.terms))
        assert not fields, f"{opcode.name} has no field {', '.join(fields)}"
        self.queues[unit].append(Instruction(opcode, tuple(values), tuple(steps)))

    # --- semaphores --------------------------------------------------------------------------

    def _acquire(self, ring: Ring) -> Value:
        iterations = 1
        for scope in self._scopes:
            iterations *= scope.count
        if ring.full < 0:
            self._open(ring, reused=iterations > ring.depth)
        if ring.free >= 0:
            self.emit(ring.producer, Opcode.WAIT, semaphore=ring.free, count=1)
        if iterations == 1 or ring.depth == 1:
            return Value(ring.address)
        coefficients = [0] * MAX_LOOPS
        weight = 1
        for scope in reversed(self._scopes):
            if scope.level is not None:
                coefficients[scope.level] = weight
            weight *= scope.count
        return Value(ring.address, ((_counters(coefficients), ring.slot_bytes, ring.depth),))

    def _open(self, ring: Ring, *, reused: bool) -> None:
        """Semaphores alternate between neighbouring steps, so that DMA_IN can run one step ahead."""
        pair = (ring.producer, ring.consumer, ring.depth, self._step % 2)
        number = self._rings_in_step[pair]
        self._rings_in_step[pair] += 1
        ring.full = self._semaphore("full", *pair, number)
        if reused:
            key = ("free", *pair, number)
            if key not in self._semaphores:
                self._credits.append((ring.producer, self._semaphore(*key), ring.depth))
            ring.free = self._semaphores[key]

    def _publish(self, ring: Ring) -> None:
        self.emit(ring.producer, Opcode.SIGNAL, semaphore=ring.full, count=1)
        self.emit(ring.consumer, Opcode.WAIT, semaphore=ring.full, count=1)
        if ring.free >= 0:
            self._scopes[-1].releases.append((ring.consumer, ring.free))

    def _release(self, scope: _Scope) -> None:
        for unit, semaphore in scope.releases:
            self.emit(unit, Opcode.SIGNAL, semaphore=semaphore, count=1)

    def _await(self, event: str, unit: Unit, total: int) -> None:
        """Blocks `unit` until `event` has happened `total` times since the program began."""
        missing = total - self._awaited[event, unit]
        if missing > 0:
            self._awaited[event, unit] = total
            self.emit(unit, Opcode.WAIT, semaphore=self._semaphore(event, unit), count=missing)

    def _semaphore(self, *key: object) -> int:
        number = self._semaphores.setdefault(key, len(self._semaphores))
        if number >= self.spec.semaphores:
            raise UnsupportedError(
                f"the program needs more than the {self.spec.semaphores} semaphores of {self.spec.name}"
            )
        return number


_UNCLIPPED: dict[str, Value | int] = {
    f"{name}{d}": value for d in range(3) for name, value in (("origin", 0), ("limit", NO_LIMIT))
}


def _counters(values: list[int]) -> _Counters:
    a, b, c, d = values
    return a, b, c, d


def _unit_vector(level: int) -> _Counters:
    return _counters([int(k == level) for k in range(MAX_LOOPS)])


def _merged(terms: tuple[_Term, ...]) -> Iterator[_Term]:
    """All plain linear terms as one; ring terms as they are; nothing that is constant zero."""
    linear = [0] * MAX_LOOPS
    for coefficients, increment, modulo in terms:
        if modulo == 0:
            linear = [total + c * increment for total, c in zip(linear, coefficients, strict=True)]
    if any(linear):
        yield _counters(linear), 1, 0
    yield from (term for term in terms if term[2] and term[1])
