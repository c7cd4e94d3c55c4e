"""`RunBudget`: what one emulation or simulation may take, so that a foreign program ends in bounded time and space."""

from __future__ import annotations

from dataclasses import dataclass

from ..common.errors import ProgramFault


@dataclass(frozen=True, slots=True)
class RunBudget:
    """Limits of one run of a program, all counted and none by a clock: a refusal is the same on every machine.

    The defaults are the limits of the instruction set; whoever runs programs of strangers passes smaller ones.
    """

    instructions: int = 2**22  # executed, LOOP and END included
    work: int = 2**40  # multiply-accumulates, elements and bytes per run: hours of emulation, but never for ever
    window_elements: int = 2**26  # of one instruction's input, padding included, per run: the emulator's work space
    memory_bytes: int = 2**32  # declared DRAM and SRAM together, per run

    def check_instructions(self, count: int) -> None:
        """Raises `ProgramFault` when a program executes more instructions; loops are counted unrolled."""
        if count > self.instructions:
            raise ProgramFault(
                f"the program would execute {count} instructions, more than the {self.instructions} of the run's budget"
            )

    def check_work(self, work: int) -> None:
        """Raises `ProgramFault` when one run takes more operations."""
        if work > self.work:
            raise ProgramFault(f"{work} operations per run exceed the {self.work} that are emulated")

    def check_window(self, rows: int, cols: int, channels: int) -> None:
        """Raises `ProgramFault` when the input of one instruction is larger."""
        if rows * cols * channels > self.window_elements:
            raise ProgramFault(
                f"the input window {rows}×{cols}×{channels} has more than {self.window_elements} elements"
            )

    def check_memory(self, size_bytes: int) -> None:
        """Raises `ProgramFault` when a program declares more memory."""
        if size_bytes > self.memory_bytes:
            raise ProgramFault(
                f"{size_bytes} bytes of DRAM and SRAM exceed the {self.memory_bytes} of the run's budget"
            )


UNLIMITED = RunBudget()
