"""Executes program files bit for bit, for a whole batch of inputs at once.

    python -m lanefit.targets.emulator program.bin --input x=images.npy --output-dir out

The four queues run cooperatively, one instruction at a time. A program whose semaphores are complete
gives the same result under every `order`; running it under several is how a missing one is found.
"""

from __future__ import annotations

import argparse
import io
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common.errors import InputError, LanefitError, ProgramFault, UnknownNameError
from ..common.files import write_atomic
from .budget import UNLIMITED, RunBudget
from .elements import load_elements, store_elements
from .encoding import decode
from .execute_conv import execute_conv
from .execute_dma import execute_dma, execute_sparse
from .execute_matmul import execute_matmul
from .execute_vector import execute_vector
from .isa import FIELDS, Opcode, Unit
from .memory import Box, Memory
from .program import HOST_TYPES, PORT_TYPES, Port, Program
from .ranges import MAX_SEMAPHORE, check_fields
from .resolve import field_values, walk
from .threads import one_blas_thread
from .validate import labels, validate

_STATE_BYTES = 2**28  # of one chunk of runs
_PRIORITIES = {
    "program": (Unit.DMA_IN, Unit.ARRAY, Unit.VECTOR, Unit.DMA_OUT),
    "dma-first": (Unit.DMA_IN, Unit.DMA_OUT, Unit.ARRAY, Unit.VECTOR),
    "compute-first": (Unit.ARRAY, Unit.VECTOR, Unit.DMA_OUT, Unit.DMA_IN),
    "random": tuple(Unit),
}


class Emulator:
    """Runs one program. `order` is the interleaving of the units, `seed` that of the order "random".

    "program" gives the units turns; "dma-first" and "compute-first" prefer those whenever they can
    proceed; "random" draws, and also fills memory that nobody wrote with random bytes. A program that needs
    more than its `budget` is a `ProgramFault`. `memory` makes DRAM and SRAM, for a class that watches accesses.
    """

    def __init__(
        self,
        program: Program,
        *,
        order: str = "program",
        seed: int = 0,
        budget: RunBudget = UNLIMITED,
        memory: Callable[..., Memory] = Memory,
    ) -> None:
        if order not in _PRIORITIES:
            raise UnknownNameError("order", order, _PRIORITIES)
        budget.check_instructions(validate(program))
        budget.check_memory(program.dram_bytes + program.sram_bytes)
        self.program, self.order, self.seed = program, order, seed
        self._memory = partial(memory, budget=budget)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs by port name, with a leading batch axis when the inputs have one.

        `inputs` are arrays of shape (batch, *port.shape) or port.shape: int8 or int16 as the port says, and float32
        for bf16, which NumPy lacks; they are rounded to nearest even. Raises `InputError` for wrong
        names, shapes and types, and `ProgramFault`, naming unit and instruction, when the program misbehaves.
        """
        batch, batched = self._check_inputs(inputs)
        ports = self.program.outputs
        outputs = {port.name: np.empty((batch, *port.shape), HOST_TYPES[port.dtype]) for port in ports}
        own_bytes = self.program.sram_bytes + self.program.dram_bytes - len(self.program.constants)
        step = max(1, _STATE_BYTES // max(1, own_bytes))
        for start in range(0, batch, step):
            runs = min(step, batch - start)
            machine = _Machine(self.program, runs, self.order, self.seed, self._memory)
            for port in self.program.inputs:
                value = inputs[port.name] if batched else inputs[port.name][None]
                machine.write_port(port, value[start : start + runs])
            with one_blas_thread():
                machine.run()
            for port in ports:
                outputs[port.name][start : start + runs] = machine.read_port(port)
        return outputs if batched else {name: values[0] for name, values in outputs.items()}

    def _check_inputs(self, inputs: Mapping[str, NDArray[Any]]) -> tuple[int, bool]:
        expected = {port.name: port for port in self.program.inputs}
        if set(inputs) != set(expected):
            raise InputError(f"the program takes inputs {sorted(expected)}, got {sorted(inputs)}")
        batches: set[int | None] = set()
        for name, port in expected.items():
            value = inputs[name]
            wanted_type = HOST_TYPES[port.dtype]
            if not isinstance(value, np.ndarray) or value.dtype != wanted_type:
                got = getattr(value, "dtype", type(value).__name__)
                article = "an" if wanted_type.kind == "i" else "a"
                hint = "quantise it first" if wanted_type.kind == "i" else "bf16 is given as float32"
                raise InputError(f"input {name!r} must be {article} {wanted_type} array, got {got}", hint=hint)
            if value.shape == port.shape:
                batches.add(None)
            elif value.shape[1:] == port.shape and value.ndim == len(port.shape) + 1:
                batches.add(len(value))
            else:
                wanted = f"{port.shape} or (batch, {', '.join(map(str, port.shape))})"
                raise InputError(f"input {name!r} must have shape {wanted}, got {value.shape}")
        if len(batches) > 1:
            raise InputError(f"the inputs have different batch sizes: {sorted(map(str, batches))}")
        batch = batches.pop() if batches else None
        return (1, False) if batch is None else (batch, True)


class _Machine:
    """The state of one chunk of runs."""

    def __init__(self, program: Program, runs: int, order: str, seed: int, memory: Callable[..., Memory]) -> None:
        self._program = program
        self._dram = memory("DRAM", runs, program.dram_bytes, program.constants)
        self._sram = memory("SRAM", runs, program.sram_bytes)
        self._semaphores = [0] * program.spec.semaphores
        self._labels = {unit: labels(program.marks, unit, len(program.queues[unit])) for unit in Unit}
        self._walks: dict[Unit, Iterator[tuple[int, list[int]]]] = {u: walk(program.queues[u]) for u in Unit}
        self._pending: dict[Unit, tuple[int, Opcode, Sequence[int]] | None] = {}
        self._work = 0
        self._order = order
        self._random = random.Random(seed)
        if order == "random":
            self._scramble(seed)
        for unit in Unit:
            self._fetch(unit)

    def write_port(self, port: Port, values: NDArray[Any]) -> None:
        ordered = values.transpose(0, 2, 3, 1) if port.is_channels_last else values
        stored = store_elements(ordered.reshape(len(values), -1), PORT_TYPES[port.dtype])
        self._memory_of(port).write(_port_box(port), stored)

    def read_port(self, port: Port) -> NDArray[Any]:
        values = load_elements(self._memory_of(port).read(_port_box(port)), PORT_TYPES[port.dtype])
        if not port.is_channels_last:
            return values.reshape(len(values), *port.shape)
        channels, height, width = port.shape
        return values.reshape(len(values), height, width, channels).transpose(0, 3, 1, 2)

    def _memory_of(self, port: Port) -> Memory:
        return self._sram if port.memory == "sram" else self._dram

    def run(self) -> None:
        """Executes until every queue is empty; `ProgramFault` when none can proceed before that."""
        priority = list(_PRIORITIES[self._order])
        while active := [unit for unit in priority if self._pending[unit] is not None]:
            if self._order == "random":
                self._random.shuffle(priority)
            unit = next((u for u in active if self._is_ready(u)), None)
            if unit is None:
                raise self._deadlock(active)
            if self._order == "program":
                priority.append(priority.pop(priority.index(unit)))
            self._execute(unit)
            self._fetch(unit)

    def _fetch(self, unit: Unit) -> None:
        """Reads the next instruction of a queue with its fields at the current loop counters."""
        found = next(self._walks[unit], None)
        if found is None:
            self._pending[unit] = None
            return
        index, counters = found
        instruction = self._program.queues[unit][index]
        try:
            values = field_values(instruction, counters)
            check_fields(instruction.opcode, values)
        except ProgramFault as fault:
            raise self._located(fault, unit, index) from None
        self._pending[unit] = (index, instruction.opcode, values)

    def _is_ready(self, unit: Unit) -> bool:
        pending = self._pending[unit]
        if pending is None:
            return False
        index, opcode, values = pending
        return opcode is not Opcode.WAIT or self._count(unit, index, values[0]) >= values[1]

    def _count(self, unit: Unit, index: int, semaphore: int) -> int:
        if semaphore >= len(self._semaphores):
            fault = ProgramFault(f"semaphore {semaphore} does not exist, the engine has {len(self._semaphores)}")
            raise self._located(fault, unit, index)
        return self._semaphores[semaphore]

    def _execute(self, unit: Unit) -> None:
        pending = self._pending[unit]
        assert pending is not None
        index, opcode, values = pending
        if opcode is Opcode.WAIT:
            self._semaphores[values[0]] -= values[1]
        elif opcode is Opcode.SIGNAL:
            self._signal(unit, index, *values)
        else:
            try:
                self._work += self._compute(unit, opcode, dict(zip(FIELDS[opcode], values, strict=True)))
                self._sram.budget.check_work(self._work)
            except ProgramFault as fault:
                raise self._located(fault, unit, index) from None

    def _signal(self, unit: Unit, index: int, semaphore: int, count: int) -> None:
        total = self._count(unit, index, semaphore) + count
        if total > MAX_SEMAPHORE:
            fault = ProgramFault(f"semaphore {semaphore} counts to {total}, beyond {MAX_SEMAPHORE}")
            raise self._located(fault, unit, index)
        self._semaphores[semaphore] = total

    def _compute(self, unit: Unit, opcode: Opcode, f: Mapping[str, int]) -> int:
        if opcode is Opcode.MATMUL:
            return execute_matmul(self._sram, f)
        if unit is Unit.ARRAY:
            return execute_conv(self._sram, opcode, f)
        if unit is Unit.VECTOR:
            return execute_vector(self._sram, opcode, f)
        if opcode is Opcode.LOAD_SPARSE:
            return execute_sparse(self._dram, self._sram, f)
        return execute_dma(self._dram, self._sram, opcode, f, len(self._program.constants))

    def _scramble(self, seed: int) -> None:
        source = np.random.default_rng(seed)
        constants = len(self._program.constants)
        for memory, start in ((self._sram, 0), (self._dram, constants)):
            memory.fill(start, source.integers(-128, 128, memory.size - start, np.int8))

    def _deadlock(self, active: Sequence[Unit]) -> ProgramFault:
        blocked: list[str] = []
        for unit in active:
            pending = self._pending[unit]
            assert pending is not None
            index, _, (semaphore, count) = pending
            has = self._semaphores[semaphore]
            blocked.append(f"{self._place(unit, index)} waits for {count} of semaphore {semaphore}, which has {has}")
        return ProgramFault("deadlock: " + "; ".join(blocked))

    def _located(self, fault: ProgramFault, unit: Unit, index: int) -> ProgramFault:
        opcode = self._program.queues[unit][index].opcode.name
        return ProgramFault(fault.what, where=f"{self._place(unit, index)}, {opcode}", hint=fault.hint)

    def _place(self, unit: Unit, index: int) -> str:
        label = self._labels[unit][index]
        return f"{unit.name} instruction {index}" + (f" ({label})" if label else "")


def _port_box(port: Port) -> Box:
    return Box(port.address, (port.size_bytes,), (1,))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lanefit.targets.emulator", description="Executes a program file on .npy inputs."
    )
    parser.add_argument("program", type=Path, help="program.bin of a package")
    parser.add_argument("--input", action="append", default=[], metavar="NAME=FILE.npy", help="once per input port")
    parser.add_argument("--output-dir", type=Path, default=Path(), metavar="DIR", help="gets one .npy per output port")
    parser.add_argument("--order", choices=sorted(_PRIORITIES), default="program", help="interleaving of the units")
    parser.add_argument("--seed", type=int, default=0, help="of the order random (default: %(default)s)")
    return parser


def _load_input(text: str) -> tuple[str, NDArray[Any]]:
    name, equals, file = text.partition("=")
    if not equals:
        raise InputError(f"{text!r} is not NAME=FILE.npy", where="--input")
    try:
        return name, np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"cannot read an array: {error}", where=file) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """The command above; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        try:
            data = options.program.read_bytes()
        except OSError as error:
            raise InputError(f"cannot read the program: {error.strerror}", where=str(options.program)) from error
        emulator = Emulator(decode(data), order=options.order, seed=options.seed)
        outputs = emulator.run(dict(map(_load_input, options.input)))
        for number, (name, values) in enumerate(outputs.items()):
            _save_output(options.output_dir, number, name, values)
    except LanefitError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _save_output(folder: Path, number: int, name: str, values: NDArray[Any]) -> None:
    """Port names come from the program: one that is no plain file name is replaced by its number."""
    plain = name if name and Path(name).name == name and "\0" not in name else f"output{number}"
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=False)
    write_atomic(folder / f"{plain}.npy", stream.getvalue())
    print(f"{name}: {'×'.join(map(str, values.shape))} {values.dtype} -> {folder / plain}.npy")


if __name__ == "__main__":
    sys.exit(main())
