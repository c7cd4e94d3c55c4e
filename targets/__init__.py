"""Engines: descriptions, instruction set, program files, bit-exact emulator and cycle model. Needs NumPy only."""

from .isa import DType, Instruction, Opcode, Step, Unit
from .program import Mark, Port, Program
from .spec import EngineSpec, load_spec, preset_names

__all__ = [
    "DType",
    "EngineSpec",
    "Instruction",
    "Mark",
    "Opcode",
    "Port",
    "Program",
    "Step",
    "Unit",
    "load_spec",
    "preset_names",
]
