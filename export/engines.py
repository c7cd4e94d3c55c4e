"""What can stand behind an engine region: the integer reference, or the emulator on the encoded program."""

from __future__ import annotations

from collections.abc import Sequence

from ..targets.emulator import Emulator
from ..targets.encoding import decode, encode
from ..targets.program import Program
from .host import Arrays, Engine
from .reference import run_region
from .regions import Region


def reference_engine(regions: Sequence[Region]) -> Engine:
    """The independent integer meaning of each region."""
    return lambda number, inputs: run_region(regions[number].graph, inputs)


def emulator_engine(programs: Sequence[Program | bytes]) -> Engine:
    """The emulated device. Programs pass through their binary form, so that it is the bytes that run."""
    binaries = [program if isinstance(program, bytes) else encode(program) for program in programs]
    emulators = [Emulator(decode(binary)) for binary in binaries]

    def run(number: int, inputs: Arrays) -> Arrays:
        return emulators[number].run(inputs)

    return run
