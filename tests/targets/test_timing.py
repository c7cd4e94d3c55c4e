"""Laws of the cycle model: by hand, the roofline, overlap, and that labels share out the whole time."""

from dataclasses import replace

import numpy as np
import pytest
from engine_programs import (
    END,
    SPEC,
    TILE,
    TILES,
    Fields,
    Layout,
    Shape,
    double_buffered,
    instruction,
    loop,
    one_instruction,
    program,
    records,
    signal,
    view,
    wait,
)
from hypothesis import given
from hypothesis import strategies as st

from lanefit.common.errors import PackageError, ProgramFault
from lanefit.targets.costing import run_length
from lanefit.targets.emulator import Emulator
from lanefit.targets.isa import Instruction, Opcode, Unit
from lanefit.targets.program import Mark, Program
from lanefit.targets.resolve import field_values, walk
from lanefit.targets.spec import EngineSpec, load_spec, preset_names
from lanefit.targets.timing import lower_bound_cycles, simulate

TRANSFER = {"count3": TILE, "dram_stride3": 1, "sram_stride3": 1}
specs = st.sampled_from([SPEC, *map(load_spec, preset_names())])


def test_one_tile_by_hand() -> None:
    compute = instruction(
        Opcode.REQUANTISE, in_pitch_w=1, in_rows=1, in_cols=TILE, out_addr=TILE, out_pitch_w=1, row_count=1,
        col_count=TILE, chan_count=1,
    )  # fmt: skip
    store = instruction(Opcode.STORE, sram_addr=TILE, **TRANSFER)
    built = program(
        {
            Unit.DMA_IN: [instruction(Opcode.LOAD, **TRANSFER), signal(0)],
            Unit.VECTOR: [wait(0), compute, signal(1)],
            Unit.DMA_OUT: [wait(1), store],
        }
    )
    load_end = 8 + 64 / 4 + 20  # issue, channel, latency
    compute_end = load_end + 8 + 64 / 4  # issue, lanes
    store_end = compute_end + 1 + 8 + 64 / 4 + 20  # SIGNAL, issue, channel, latency
    timing = simulate(built)
    assert timing.cycles == store_end == 113
    assert timing.latency_us == 1.13
    busy = {unit.unit: unit.busy for unit in timing.units}
    assert busy == {Unit.DMA_IN: 25, Unit.ARRAY: 0, Unit.VECTOR: 26, Unit.DMA_OUT: 25}
    stall = {unit.unit: unit.stall for unit in timing.units}
    assert stall == {Unit.DMA_IN: 0, Unit.ARRAY: 0, Unit.VECTOR: load_end - 1, Unit.DMA_OUT: compute_end + 1 - 1}
    assert (timing.dram_read_bytes, timing.dram_write_bytes, timing.vector_elements) == (64, 64, 64)


def test_constants_come_through_flash_where_there_is_one() -> None:
    loads = [instruction(Opcode.LOAD, dram_addr=address, **TRANSFER) for address in (0, TILE)]
    built = program({Unit.DMA_IN: loads}, constants=bytes(TILE), dram_bytes=2 * TILE)
    flash = replace(SPEC, flash_bytes_per_cycle=0.5, flash_latency_cycles=7, flash_burst_bytes=128)
    timing = simulate(replace(built, spec=flash), trace=True)
    first, second = timing.events
    assert first.end == 8 + 128 / 0.5 + 7  # issue, one burst for half as many bytes, latency
    assert second.end == 8 + 128 / 0.5 + 8 + 64 / 4 + 20
    assert simulate(built).cycles == 2 * (8 + 64 / 4) + 20


def test_an_empty_program_takes_no_time() -> None:
    timing = simulate(program({}))
    assert (timing.cycles, timing.utilisation, timing.labels) == (0, 0.0, ())


def test_loops_cost_nothing_and_clipped_instructions_their_issue() -> None:
    load = instruction(Opcode.LOAD, {"origin0": ((1, 0, 0, 0), -1)}, count0=1, limit0=1)
    assert simulate(program({Unit.DMA_IN: [loop(5), load, END]})).cycles == 5 * 8 + 16 // 4
    assert simulate(program({Unit.DMA_IN: [loop(5), replace(load, steps=()), END]})).cycles == 5 * (8 + 16 // 4) + 20


def convolution(shape: Shape, inputs: int, kernel: int, *, depthwise: bool = False) -> Program:
    rows, cols, channels = shape
    inputs = channels if depthwise else inputs
    depth = kernel * kernel * (1 if depthwise else inputs)
    layout = Layout()
    address = layout.constant(
        records(np.ones((channels, depth)), [0] * channels, [1 << 30] * channels, [40] * channels)
    )
    source = layout.map("x", (rows, cols, inputs))
    fields: Fields = {"kernel_h": kernel, "kernel_w": kernel, "pad_h": kernel // 2, "pad_w": kernel // 2}
    fields |= {"in_rows": rows, "in_cols": cols, "weights_addr": address, "record_pitch": 12 + depth}
    fields |= {"mode": int(depthwise), "channels_in": 1 if depthwise else inputs}
    return one_instruction(layout, Opcode.CONV, shape, **fields, **view("in", source))


def test_array_and_vector_unit_take_turns_where_they_are_one_engine() -> None:
    built = convolution((8, 8, 16), 16, 3)
    copy = instruction(
        Opcode.REQUANTISE, in_pitch_w=1, in_rows=1, in_cols=TILE, out_addr=TILE, out_pitch_w=1, row_count=1,
        col_count=TILE, chan_count=16,
    )  # fmt: skip
    conv = built.queues[Unit.ARRAY][1]  # between WAIT and SIGNAL
    for name, together in (("ne-64", max), ("ethos-u55-64", lambda *cycles: sum(cycles))):
        spec = load_spec(name)
        queues = [{Unit.ARRAY: a, Unit.VECTOR: v} for a, v in (((conv,), (copy,)), ((conv,), ()), ((), (copy,)))]
        programs = [replace(built, spec=spec, queues=dict.fromkeys(Unit, ()) | queue) for queue in queues]
        both, *alone = (simulate(found).cycles for found in programs)
        assert min(alone) > 8 * spec.issue_cycles
        assert both == pytest.approx(together(*alone), abs=spec.issue_cycles)


sizes = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 40))


@given(sizes, st.integers(1, 40), st.sampled_from([1, 3]), st.booleans(), specs)
def test_no_program_beats_the_roofline(
    shape: Shape, inputs: int, kernel: int, depthwise: bool, spec: EngineSpec
) -> None:
    timing = simulate(replace(convolution(shape, inputs, kernel, depthwise=depthwise), spec=spec))
    macs = shape[0] * shape[1] * shape[2] * kernel * kernel * (1 if depthwise else inputs)
    assert timing.macs == macs
    assert timing.cycles >= lower_bound_cycles(macs, timing.dram_bytes, timing.vector_elements, spec)
    assert all(timing.cycles >= unit.busy for unit in timing.units)
    assert timing.cycles >= sum(label.dram for label in timing.labels)
    assert 0 < timing.utilisation <= 1


@given(sizes, st.integers(1, 40), st.sampled_from([1, 3]), st.integers(0, 2))
def test_more_work_never_takes_less_time(shape: Shape, inputs: int, kernel: int, axis: int) -> None:
    larger = list(shape)
    larger[axis] += 1
    rows, cols, channels = larger
    small = simulate(convolution(shape, inputs, kernel)).cycles
    assert small <= simulate(convolution((rows, cols, channels), inputs, kernel)).cycles
    assert small <= simulate(convolution(shape, inputs + 1, kernel)).cycles
    assert small <= simulate(convolution(shape, inputs, kernel + 2)).cycles


def test_double_buffering_overlaps_transfers_and_compute() -> None:
    single, double = simulate(double_buffered(depth=1)), simulate(double_buffered(depth=2))
    assert double.cycles < 0.7 * single.cycles
    assert double.cycles < sum(unit.busy for unit in double.units)


def test_the_dram_channel_serves_one_transfer_at_a_time() -> None:
    load = instruction(Opcode.LOAD, count3=160, dram_stride3=1, sram_stride3=1)
    store = instruction(Opcode.STORE, count3=160, dram_stride3=1, sram_stride3=1)
    timing = simulate(program({Unit.DMA_IN: [load, load], Unit.DMA_OUT: [store, store]}))
    assert timing.cycles == 8 + 4 * 160 // 4 + 20
    assert {unit.unit: unit.stall for unit in timing.units}[Unit.DMA_OUT] > 0


def unrolled(built: Program) -> Program:
    """The same program without loops and steps."""
    queues = {
        unit: tuple(Instruction(queue[i].opcode, tuple(field_values(queue[i], c))) for i, c in walk(queue))
        for unit, queue in built.queues.items()
    }
    return replace(built, queues=queues)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_loops_mean_the_same_as_their_unrolled_bodies(depth: int) -> None:
    rolled = double_buffered(depth=depth)
    flat = unrolled(rolled)
    assert len(flat.queues[Unit.DMA_IN]) == TILES * 3
    assert simulate(rolled) == simulate(flat)
    x = np.random.default_rng(0).integers(-128, 128, (TILES, TILE)).astype(np.int8)
    np.testing.assert_array_equal(Emulator(rolled).run({"x": x})["y"], Emulator(flat).run({"x": x})["y"])


def test_labels_share_out_all_cycles_in_program_order() -> None:
    timing = simulate(convolution((5, 5, 20), 12, 3))
    assert [label.label for label in timing.labels] == ["operands", "compute"]
    assert sum(label.cycles for label in timing.labels) == timing.cycles
    operands, compute = timing.labels
    assert (operands.macs, operands.array, operands.dram_write_bytes) == (0, 0.0, 0)
    assert operands.dram_read_bytes == timing.dram_read_bytes > 0
    assert compute.macs == timing.macs
    assert compute.dram_write_bytes == 500
    assert operands.start <= operands.end <= compute.end == timing.cycles
    assert (operands.bound, compute.bound) == ("memory", "array")


def test_prefetched_work_belongs_to_its_label_and_its_time_to_nobody() -> None:
    """The transfer of the second label hides behind the compute of the first one."""
    work = instruction(Opcode.REQUANTISE, row_count=1, col_count=1000, chan_count=1)
    load = instruction(Opcode.LOAD, count3=160, dram_stride3=1, sram_stride3=1)
    built = program(
        {Unit.DMA_IN: [load, signal(0)], Unit.VECTOR: [work, wait(0), work]},
        marks=[Mark(Unit.VECTOR, 0, "a"), Mark(Unit.DMA_IN, 0, "b"), Mark(Unit.VECTOR, 1, "b")],
    )
    a, b = simulate(built).labels
    assert (a.cycles, a.bound, a.dram) == (258, "vector", 0.0)
    assert (b.cycles, b.bound, b.dram, b.start) == (259, "vector", 40.0, 0.0)


def test_small_programs_are_bound_by_their_overhead() -> None:
    tiny = instruction(Opcode.REQUANTISE, row_count=1, col_count=1, chan_count=1)
    (label,) = simulate(program({Unit.VECTOR: [loop(9), tiny, END]})).labels
    assert (label.bound, label.vector, label.cycles) == ("overhead", 9 / 4, 75)


@pytest.mark.parametrize(
    ("counts", "strides", "length"),
    [
        ((2, 3, 4, 5), (60, 20, 5, 1), 120),
        ((2, 3, 4, 5), (100, 20, 5, 1), 60),
        ((2, 3, 4, 5), (60, 20, 6, 1), 5),
        ((7, 1, 1, 5), (5, 99, 99, 1), 35),
        ((2, 3, 4, 5), (60, 20, 5, 2), 1),
        ((2, 3, 4, 1), (12, 4, 1, 9), 24),
        ((1, 1, 1, 1), (0, 0, 0, 0), 1),
    ],
)
def test_runs_merge_from_the_innermost_dimension(
    counts: tuple[int, ...], strides: tuple[int, ...], length: int
) -> None:
    assert run_length(counts, strides) == length


def test_scattered_transfers_cost_whole_bursts() -> None:
    dense = instruction(Opcode.LOAD, count2=4, count3=4, dram_stride2=4, dram_stride3=1, sram_stride2=4, sram_stride3=1)
    apart = instruction(Opcode.LOAD, count2=4, count3=4, dram_stride2=8, dram_stride3=1, sram_stride2=4, sram_stride3=1)
    assert simulate(program({Unit.DMA_IN: [dense]})).labels[0].dram == 16 / 4
    assert simulate(program({Unit.DMA_IN: [apart]})).labels[0].dram == 4 * 16 / 4


def test_extents_follow_stepped_fields() -> None:
    shrinking = {"row_start": ((1, 0, 0, 0), 3), "kernel_h": ((1, 0, 0, 0), 2)}
    pool = instruction(Opcode.POOL, shrinking, row_count=3, row_limit=7, col_count=4, chan_count=1, mode=1)
    timing = simulate(program({Unit.VECTOR: [loop(3), pool, END]}))
    assert timing.vector_elements == 3 * 4 * 1 + 3 * 4 * 3 + 1 * 4 * 5


def test_deadlock_and_bad_fields_are_located() -> None:
    with pytest.raises(ProgramFault, match="deadlock: VECTOR instruction 1 waits for 2 of semaphore 3, which has 1"):
        simulate(program({Unit.VECTOR: [signal(3), wait(3, 2)]}))
    bad = instruction(Opcode.POOL, {"kernel_h": ((1, 0, 0, 0), -1)}, row_count=1, col_count=1, chan_count=1)
    with pytest.raises(ProgramFault, match=r"kernel_h must be within .* got 0\n  at VECTOR instruction 1"):
        simulate(program({Unit.VECTOR: [loop(2), bad, END]}))
    with pytest.raises(ProgramFault, match=r"shift must be within 2\.\.62.*\n  at VECTOR instruction 0"):
        simulate(program({Unit.VECTOR: [instruction(Opcode.REQUANTISE, shift=1)]}))
    stepped = instruction(Opcode.SIGNAL, {"semaphore": ((1, 0, 0, 0), 1)}, semaphore=15, count=1)
    with pytest.raises(ProgramFault, match=r"semaphore 16 does not exist.*\n  at ARRAY instruction 1"):
        simulate(program({Unit.ARRAY: [loop(2), stepped, END]}))
    with pytest.raises(ProgramFault, match="semaphore 0 counts to 65537"):
        simulate(program({Unit.ARRAY: [signal(0, 65536), signal(0)]}))
    with pytest.raises(PackageError, match="END without LOOP"):
        simulate(program({Unit.ARRAY: [END]}))
