"""Damaged programs and packages end in typed errors; and the judge that says so sees what it is there to see."""

import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_programs import double_buffered, instruction, program
from numpy.typing import NDArray

from lanefit.common.errors import PackageError, ProgramFault
from lanefit.targets import emulator
from lanefit.targets.budget import UNLIMITED, RunBudget
from lanefit.targets.emulator import Emulator
from lanefit.targets.encoding import decode, encode, encode_sections, join_sections
from lanefit.targets.isa import Opcode, Unit
from lanefit.targets.memory import Box, Memory
from lanefit.targets.spec import load_spec
from lanefit.targets.timing import simulate

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "engine"))
from fuzzing import judge as judge_module
from fuzzing.campaign import make, run, run_range
from fuzzing.corpus import corpus
from fuzzing.judge import BUDGET, AccessLog, corners, judge

SEED, CHUNK = 2026, 5000
FILE = encode(double_buffered())


@pytest.mark.parametrize("chunk", range(4))
def test_damaged_inputs_end_in_typed_errors(chunk: int) -> None:
    found = run_range((chunk * CHUNK, (chunk + 1) * CHUNK), seed=SEED, seconds=10)
    assert found.failures == []
    counts = found.as_dict()
    assert counts["inputs"] == CHUNK == counts["typed_errors"] + counts["accepted"]
    assert min(counts["typed_errors"], counts["accepted"]) > CHUNK // 10  # neither all dead at the door nor all alive
    assert counts["stages"]["emulate: ProgramFault"] > CHUNK // 20


@pytest.mark.slow
def test_a_long_campaign_ends_in_typed_errors() -> None:
    assert run(250_000, SEED + 1, 2, 10).failures == []


def test_every_opcode_is_in_the_corpus() -> None:
    found = {i.opcode for p in (*corpus().compiled, *corpus().lone) for queue in p.queues.values() for i in queue}
    assert found == set(Opcode)


def test_seeds_run_inside_the_budget_when_they_are_undamaged() -> None:
    for seed in (*corpus().compiled, *corpus().lone):  # zeros, since random bytes can be a NaN that no int8 equals
        Emulator(seed, budget=BUDGET).run({port.name: np.zeros(port.shape, np.int8) for port in seed.inputs})
        assert simulate(seed, budget=BUDGET).cycles > 0
    for data in corpus().packages:
        assert judge(data, random.Random(0), package=True).outcome == "accepted"


def test_an_input_is_the_same_whenever_it_is_made() -> None:
    for index in (3, 77, 500):
        assert make(index, 5)[:2] == make(index, 5)[:2]
    assert make(3, 5)[0] != make(3, 6)[0]


class _Leaky(Memory):
    """A memory with a bug: it forgets to check, and has room behind its declared end."""

    def __init__(self, name: str, runs: int, size: int, initial: bytes = b"", *, budget: RunBudget = UNLIMITED) -> None:
        super().__init__(name, runs, size + 4096, initial, budget=budget)

    def check(self, box: Box) -> None:
        pass


@pytest.mark.parametrize(
    ("opcode", "fields", "touched"),
    [
        (Opcode.LOAD, {"sram_addr": 65536}, "write of SRAM 65536..65536"),
        (
            Opcode.LOAD,
            {"dram_addr": 4090, "count3": 8, "dram_stride3": 1, "sram_stride3": 1},
            "read of DRAM 4090..4097",
        ),
        (Opcode.LOAD, {"count2": 3, "dram_stride2": 2048, "sram_stride2": 1}, "read of DRAM 0..4096"),
    ],
)
def test_an_emulator_that_forgets_its_bounds_is_caught(opcode: Opcode, fields: dict[str, int], touched: str) -> None:
    data = encode(program({Unit.DMA_IN: [instruction(opcode, **fields)]}))
    assert judge(data, random.Random(0)).outcome == "typed_errors"
    verdict = judge(data, random.Random(0), make=_Leaky)
    assert verdict.outcome == "out_of_bounds"
    assert verdict.detail.startswith(touched)


def test_writing_to_the_constants_is_out_of_bounds() -> None:
    log = AccessLog()
    memory = log.memory("DRAM", 1, 16, b"1234")
    memory.read(Box(0, (16,), (1,)))
    assert log.outside == []
    memory.write(Box(3, (2,), (1,)), np.zeros((1, 2), np.int8))
    assert log.outside == ["write of DRAM 3..4, not within 4..16"]


def test_corners_are_the_ends_of_a_box_with_negative_strides() -> None:
    assert corners(Box(10, (3, 4), (-2, 5))) == (6, 25)


def test_watching_a_memory_changes_nothing() -> None:
    log = AccessLog()
    x = np.arange(6 * 64, dtype=np.int8).reshape(6, 64)
    watched: dict[str, NDArray[Any]] = Emulator(double_buffered(), memory=log.memory).run({"x": x})
    np.testing.assert_array_equal(watched["y"], Emulator(double_buffered()).run({"x": x})["y"])
    assert log.outside == []


def test_a_crash_is_told_from_a_typed_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> int:
        raise IndexError("oops")

    monkeypatch.setattr(emulator, "execute_dma", broken)
    verdict = judge(FILE, random.Random(0))
    assert (verdict.outcome, verdict.stage) == ("crashes", "emulate")
    assert verdict.detail.startswith("IndexError: oops (broken, ")


def test_a_hang_is_told_from_a_typed_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(*_: object, **__: object) -> int:
        while True:
            pass

    monkeypatch.setattr(judge_module, "simulate", endless)
    verdict = judge(FILE, random.Random(0), seconds=0.05)
    assert (verdict.outcome, verdict.stage) == ("hangs", "time")


def test_the_budget_of_the_judge_is_a_typed_error() -> None:
    empty = [instruction(Opcode.LOOP, count=BUDGET.instructions), instruction(Opcode.END)]
    assert judge(encode(program({Unit.ARRAY: empty})), random.Random(0)).detail == "ProgramFault"


# --- what fuzzing found ------------------------------------------------------------------------


def _with_spec(text: bytes) -> bytes:
    sections = encode_sections(double_buffered())
    return join_sections({**sections, "spec": text})


def test_a_sram_without_banks_is_refused() -> None:
    spec = encode_sections(double_buffered())["spec"].replace(b'"sram_banks":1', b'"sram_banks":0')
    with pytest.raises(PackageError, match="sram_banks must be positive"):
        decode(_with_spec(spec))


def test_opposite_infinities_add_up_without_a_warning() -> None:
    seed = next(p for p in corpus().lone if p.marks[0].label == "ADD BF16 BF16 BF16")
    infinity, minus = b"\x80\x7f", b"\x80\xff"
    x = np.frombuffer(infinity * 128 + minus * 128, np.int8)  # operand a lies in the first half, b in the second
    y = Emulator(seed).run({"x": x})["y"].view(np.uint16)[:36]
    assert ((y & 0x7F80) == 0x7F80).all()
    assert (y & 0x7F).all(), "NaN has a fraction, infinity has none"


def _changed(label: str, spec: str = "ne-64", **fields: int) -> bytes:
    """The lone program of that label with other fields in its instruction."""
    seed = next(p for p in corpus().lone if p.marks[0].label == label)
    unit = seed.marks[0].unit
    queue = list(seed.queues[unit])
    queue[1] = replace(queue[1], fields=tuple((queue[1].named() | fields).values()))
    return encode(replace(seed, spec=load_spec(spec), queues={**seed.queues, unit: tuple(queue)}))


@pytest.mark.parametrize("mode", [0, 1])
def test_a_resize_of_a_map_that_is_one_element_read_over_and_over_is_refused(mode: int) -> None:
    huge = {"in_pitch_h": 0, "in_pitch_w": 0, "in_rows": 2**31 - 1, "in_cols": 2**31 - 1}
    data = _changed("RESIZE INT8 INT8", mode=mode, **huge, scale_h_d=8192, scale_w_d=8192)
    with pytest.raises(ProgramFault, match=r"input window 16385×16385×4|input window 16386×16386×4"):
        Emulator(decode(data)).run({"x": np.zeros(512, np.int8)})


def test_the_largest_kernel_is_timed_without_walking_through_it() -> None:
    extents = {"kernel_h": 2**16, "kernel_w": 2**16, "in_rows": 2**16 + 2, "in_cols": 2**16 + 2}
    for depthwise in (0, 1):
        data = _changed("CONV INT8 INT8", "ethos-u55-128", mode=depthwise, **extents)
        verdict = judge(data, random.Random(0), seconds=1)
        assert verdict.outcome == "typed_errors", verdict  # the emulator refuses the window
        assert simulate(decode(data)).cycles > 2**32 / 128
