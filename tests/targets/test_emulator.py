"""Inputs, batches, synchronisation and faults of the emulator."""

import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from engine_programs import (
    END,
    SPEC,
    TILE,
    TILES,
    Array,
    Fields,
    Layout,
    double_buffered,
    instruction,
    loop,
    one_instruction,
    program,
    programs,
    records,
    signal,
    view,
    wait,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from lanefit.common.errors import InputError, LanefitError, ProgramFault, UnknownNameError
from lanefit.targets import emulator as emulator_module
from lanefit.targets.emulator import Emulator, main
from lanefit.targets.encoding import encode
from lanefit.targets.isa import Instruction, Opcode, Unit
from lanefit.targets.program import Mark, Port, Program
from lanefit.targets.timing import simulate

ORDERS = ("program", "dma-first", "compute-first", "random")
X = np.random.default_rng(0).integers(-128, 128, (3, TILES, TILE)).astype(np.int8)
SHIFTED = np.clip(X.astype(int) - 1 + 3, -128, 127)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_synchronised_programs_do_not_depend_on_the_order(order: str, depth: int) -> None:
    y = Emulator(double_buffered(depth=depth), order=order, seed=5).run({"x": X})["y"]
    np.testing.assert_array_equal(y, SHIFTED)


def test_a_missing_semaphore_shows_under_another_order() -> None:
    racy = double_buffered(free=False)
    results = {order: Emulator(racy, order=order).run({"x": X})["y"] for order in ORDERS}
    np.testing.assert_array_equal(results["compute-first"], SHIFTED)
    assert (results["dma-first"] != SHIFTED).any()


def test_unknown_order_is_refused_with_known_names() -> None:
    with pytest.raises(UnknownNameError, match="compute-first, dma-first, program, random"):
        Emulator(double_buffered(), order="fifo")


def test_a_batch_equals_its_images_one_by_one() -> None:
    emulator = Emulator(double_buffered())
    together = emulator.run({"x": X})["y"]
    for image, result in zip(X, together, strict=True):
        alone = emulator.run({"x": image})["y"]
        assert alone.shape == result.shape
        np.testing.assert_array_equal(alone, result)


def test_chunks_of_a_large_batch_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulator_module, "_STATE_BYTES", 2 * (2 * TILES * TILE + 4 * TILE))
    np.testing.assert_array_equal(Emulator(double_buffered()).run({"x": X})["y"], SHIFTED)


def test_an_empty_batch_gives_empty_outputs() -> None:
    assert Emulator(double_buffered()).run({"x": X[:0]})["y"].shape == (0, TILES, TILE)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, r"takes inputs \['x'\], got \[\]"),
        ({"x": X, "z": X}, r"takes inputs \['x'\], got \['x', 'z'\]"),
        ({"x": X.astype(np.float32)}, "input 'x' must be an int8 array, got float32"),
        ({"x": X.tolist()}, "input 'x' must be an int8 array, got list"),
        ({"x": X[:, :2]}, r"must have shape \(6, 64\) or \(batch, 6, 64\), got \(3, 2, 64\)"),
    ],
    ids=["missing", "extra", "float", "list", "shape"],
)
def test_wrong_inputs_name_what_was_expected_and_got(inputs: dict[str, Array], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Emulator(double_buffered()).run(inputs)


def test_a_map_in_sram_lies_as_the_engine_has_it() -> None:
    ports = [Port("x", 3, (2, 2, 3), 1.0, 0, memory="sram"), Port("y", 3, (12,), 1.0, 0, memory="sram")]
    value = np.arange(12, dtype=np.int8).reshape(2, 2, 3)
    built = program({}, inputs=ports[:1], outputs=[ports[1], replace(ports[0], name="z")], sram_bytes=16)
    found = Emulator(built).run({"x": value})
    np.testing.assert_array_equal(found["y"], value.transpose(1, 2, 0).ravel())
    np.testing.assert_array_equal(found["z"], value)


def test_inputs_with_different_batches_are_refused() -> None:
    ports = [Port("a", 0, (4,), 1.0, 0), Port("b", 4, (4,), 1.0, 0)]
    emulator = Emulator(program({}, inputs=ports))
    with pytest.raises(InputError, match="different batch sizes"):
        emulator.run({"a": np.zeros((2, 4), np.int8), "b": np.zeros((3, 4), np.int8)})
    with pytest.raises(InputError, match="different batch sizes"):
        emulator.run({"a": np.zeros((2, 4), np.int8), "b": np.zeros(4, np.int8)})


def test_deadlock_lists_who_waits_for_what() -> None:
    built = program(
        {Unit.ARRAY: [signal(2), wait(5, 2)], Unit.VECTOR: [wait(2), signal(5), wait(6)]},
        marks=[Mark(Unit.ARRAY, 0, "conv1")],
    )
    with pytest.raises(ProgramFault, match="deadlock") as caught:
        Emulator(built).run({})
    assert "ARRAY instruction 1 (conv1) waits for 2 of semaphore 5, which has 1" in str(caught.value)
    assert "VECTOR instruction 2 waits for 1 of semaphore 6, which has 0" in str(caught.value)


def test_semaphores_may_stay_positive_but_not_grow_for_ever() -> None:
    assert Emulator(program({Unit.ARRAY: [signal(0, 2**16)]})).run({}) == {}
    with pytest.raises(ProgramFault, match="semaphore 0 counts to 65537"):
        Emulator(program({Unit.ARRAY: [signal(0, 2**16), signal(0)]})).run({})


def test_stepped_semaphores_are_checked_when_they_are_reached() -> None:
    reached = instruction(Opcode.SIGNAL, {"semaphore": ((1, 0, 0, 0), 1)}, semaphore=SPEC.semaphores - 1, count=1)
    with pytest.raises(ProgramFault, match="semaphore 16 does not exist"):
        Emulator(program({Unit.VECTOR: [loop(2), reached, END]})).run({})


def test_fields_that_grow_beyond_32_bits_are_a_fault() -> None:
    load = instruction(Opcode.LOAD, {"dram_addr": ((2**30, 0, 0, 0), 2**30)}, count0=0)
    with pytest.raises(ProgramFault, match="field dram_addr reaches 1152921504606846976"):
        Emulator(program({Unit.DMA_IN: [loop(2), load, END]})).run({})


def conv_program(**fields: int) -> Program:
    layout = Layout()
    address = layout.constant(records(np.ones((2, 3)), [0, 0], [1 << 30] * 2, [30] * 2))
    source = layout.map("x", (2, 2, 3))
    base = {"channels_in": 3, "weights_addr": address, "record_pitch": 15, "in_rows": 2, "in_cols": 2}
    return one_instruction(layout, Opcode.CONV, (2, 2, 2), **{**base, **view("in", source), **fields})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"in_row0": 1}, "row 0 lies before the first one of the view, 1"),
        ({"in_chan0": 2}, "channel 0 lies before the first one of the view, 2"),
        ({"in_wrap": 1}, "2 rows do not fit a rolling buffer of 1"),
        ({"in_pitch_h": 30}, r"SRAM bytes 30\.\.65 lie outside of 0\.\.49"),
        ({"weights_addr": 40}, r"SRAM bytes 40\.\.69 lie outside"),
        ({"weights_addr": 12}, "channel 0 has RESCALE multiplier"),
        ({"weights_chan0": 1}, "channel 0 lies before the first record, 1"),
        ({"record_pitch": 14}, "records of 15 bytes overlap at a pitch of 14"),
        ({"out_addr": 36}, "the output from SRAM byte 36 on overlaps the input"),
        ({"out_pitch_w": 1}, "put two elements into one byte"),
        ({"out_addr": 47}, r"SRAM bytes 47\.\.54 lie outside"),
        ({"stride_h": 0}, r"stride_h must be within 1\.\.2147483647 in CONV, got 0"),
        ({"mode": 2}, r"mode must be within 0\.\.1"),
        ({"act_min": 5, "act_max": 4}, "act_min exceeds act_max"),
        ({"out_zp": 128}, r"out_zp must be within -128\.\.127"),
        ({"stride_h": 2**31 - 1}, "has more than 67108864 elements"),
        ({"channels_in": 2**31 - 1}, "more than"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_faults_name_unit_instruction_and_label(fields: Fields, message: str) -> None:
    with pytest.raises(ProgramFault, match=message) as caught:
        Emulator(conv_program(**fields)).run({"x": np.ones((2, 2, 3), np.int8)})
    assert "ARRAY instruction 1 (compute), CONV" in str(caught.value)


def mutate(base: Program, unit: Unit, index: int, position: int, value: int) -> Program:
    queue = list(base.queues[unit])
    old = queue[index]
    fields = (*old.fields[:position], value, *old.fields[position + 1 :])
    queue[index] = Instruction(old.opcode, fields, old.steps)
    queues = {**base.queues, unit: tuple(queue)}
    return Program(
        base.spec, queues, base.constants, base.dram_bytes, base.sram_bytes, base.inputs, base.outputs, base.marks
    )


EDGES = st.sampled_from([-(2**31), -129, -128, -1, 0, 1, 2, 3, 63, 127, 128, 255, 65535, 2**16, 2**30, 2**31 - 1])


@settings(max_examples=300)
@given(st.sampled_from([double_buffered(), conv_program()]), st.data())
def test_any_field_value_gives_a_result_or_a_typed_error(base: Program, data: st.DataObject) -> None:
    mutated = base
    for _ in range(data.draw(st.integers(1, 3))):
        unit = data.draw(st.sampled_from([u for u in Unit if base.queues[u]]))
        index = data.draw(st.integers(0, len(base.queues[unit]) - 1))
        if fields := base.queues[unit][index].fields:
            position = data.draw(st.integers(0, len(fields) - 1))
            mutated = mutate(mutated, unit, index, position, data.draw(EDGES | st.integers(-100, 10_000)))
    port = base.inputs[0]
    try:
        outputs = Emulator(mutated).run({"x": np.ones((2, *port.shape), np.int8)})
    except LanefitError:
        return
    assert set(outputs) == {"y"}


@settings(max_examples=200)
@given(programs, st.sampled_from(ORDERS))
def test_well_formed_nonsense_ends_or_faults(built: Program, order: str) -> None:
    port = built.inputs[0]
    with suppress(LanefitError):
        Emulator(built, order=order).run({port.name: np.ones(port.shape, np.int8)})
    with suppress(LanefitError):
        simulate(built)


def test_the_command_runs_a_file_in_a_process_without_the_compiler(tmp_path: Path) -> None:
    (tmp_path / "program.bin").write_bytes(encode(double_buffered()))
    np.save(tmp_path / "x.npy", X)
    code = (
        "import sys; from lanefit.targets.emulator import main; "
        "code = main(['program.bin', '--input', 'x=x.npy', '--output-dir', 'out']); "
        "heavy = {'torch', 'tvm', 'typer', 'onnx', 'sklearn', 'lanefit.kernels', 'lanefit.export'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "y.npy"), SHIFTED)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.bin"], "cannot read the program: No such file"),
        (["bad.bin"], "not a program file"),
        (["program.bin"], r"takes inputs ['x'], got []"),
        (["program.bin", "--input", "x"], "'x' is not NAME=FILE.npy"),
        (["program.bin", "--input", "x=bad.bin"], "cannot read an array"),
    ],
    ids=["absent", "foreign", "no-input", "no-file", "no-array"],
)
def test_the_command_explains_what_is_wrong(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "program.bin").write_bytes(encode(double_buffered()))
    (tmp_path / "bad.bin").write_bytes(b"#!/bin/sh\necho no program\n")
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_output_names_cannot_leave_the_output_folder(tmp_path: Path) -> None:
    built = program({}, outputs=[Port("../y", 0, (4,), 1.0, 0), Port("logits", 4, (4,), 1.0, 0)])
    (tmp_path / "program.bin").write_bytes(encode(built))
    assert main([str(tmp_path / "program.bin"), "--output-dir", str(tmp_path / "out")]) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["logits.npy", "output0.npy"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "program.bin"]
