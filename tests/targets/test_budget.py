"""A run that needs more than its budget ends in a fault that names the limit; one that needs no more is unchanged."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from engine_programs import SPEC, TILE, TILES, Layout, double_buffered, one_instruction, program, view

from lanefit.common.errors import ProgramFault
from lanefit.targets.budget import UNLIMITED, RunBudget
from lanefit.targets.emulator import Emulator
from lanefit.targets.isa import Opcode, PoolMode
from lanefit.targets.program import Program
from lanefit.targets.timing import simulate
from lanefit.targets.validate import MAX_DYNAMIC_INSTRUCTIONS, validate

X = np.arange(TILES * TILE, dtype=np.int8).reshape(TILES, TILE)


def _emulate(built: Program, budget: RunBudget) -> object:
    return Emulator(built, budget=budget).run({"x": X})


def _simulate(built: Program, budget: RunBudget) -> object:
    return simulate(built, budget=budget)


@pytest.mark.parametrize("run", [_emulate, _simulate], ids=["emulator", "timing"])
def test_a_budget_of_exactly_its_instructions_lets_a_program_run(run: Callable[..., object]) -> None:
    built = double_buffered()
    count = validate(built)
    assert count == (1 + 4 * TILES) + (2 + 6 * TILES) + (2 + 4 * TILES)  # LOOP once, END in every iteration
    run(built, RunBudget(instructions=count))
    with pytest.raises(ProgramFault, match=f"would execute {count} instructions, more than the {count - 1}"):
        run(built, RunBudget(instructions=count - 1))


def test_work_is_counted_over_the_whole_run() -> None:
    work = 3 * TILES * TILE  # each tile is loaded, negated and stored
    _emulate(double_buffered(), RunBudget(work=work))
    with pytest.raises(ProgramFault, match=f"{work} operations per run exceed the {work - 1}"):
        _emulate(double_buffered(), RunBudget(work=work - 1))


def test_a_single_instruction_is_refused_before_it_takes_the_time() -> None:
    layout = Layout()
    fields = {**view("in", layout.map("x", (8, 8, 8))), "in_rows": 8, "in_cols": 8, "mode": PoolMode.SUM}
    built = one_instruction(layout, Opcode.POOL, (7, 7, 8), **fields, kernel_h=2, kernel_w=2)
    x = np.zeros((8, 8, 8), np.int8)
    work = 7 * 7 * 8 * 2 * 2
    with pytest.raises(ProgramFault, match=f"{work} operations per run exceed the {work - 1}") as caught:
        Emulator(built, budget=RunBudget(work=work - 1)).run({"x": x})
    assert "POOL" in caught.value.where
    with pytest.raises(ProgramFault, match="input window 8×8×8 has more than 511 elements"):
        Emulator(built, budget=RunBudget(window_elements=511)).run({"x": x})


def test_memory_is_refused_before_it_is_allocated() -> None:
    built = program({}, spec=replace(SPEC, sram_bytes=2**30), sram_bytes=2**30, dram_bytes=2**31)
    with pytest.raises(ProgramFault, match=f"{2**30 + 2**31} bytes of DRAM and SRAM exceed the 4096"):
        Emulator(built, budget=RunBudget(memory_bytes=4096))


def test_the_default_budget_is_the_limit_of_the_instruction_set() -> None:
    assert UNLIMITED.instructions == MAX_DYNAMIC_INSTRUCTIONS
