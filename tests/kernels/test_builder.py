"""The tile language spreads one sequential program over the queues and adds the semaphores that it implies."""

import pytest

from lanefit.common.errors import UnsupportedError
from lanefit.kernels.builder import Builder, Fence, Value
from lanefit.targets.isa import FIELDS, Opcode, Unit
from lanefit.targets.spec import load_spec


def _builder() -> Builder:
    builder = Builder(load_spec("ne-256"))
    builder.begin_step("layer", Unit.ARRAY, Fence())
    return builder


def _load_fields(**given: int) -> dict[str, int]:
    names = [n for n in FIELDS[Opcode.LOAD] if n not in ("sram_addr",) and not n.startswith(("origin", "limit"))]
    return {name: given.get(name, 1) for name in names}


def test_a_value_adds_and_scales_its_counters() -> None:
    value = (Value(3, (((1, 0, 0, 0), 2, 0),)) + 4) * 5
    assert value.base == 35
    assert value.terms == (((1, 0, 0, 0), 10, 0),)


def test_a_loop_appears_only_on_units_that_work_in_its_body() -> None:
    builder = _builder()
    ring = builder.ring(0, 16, 2, Unit.DMA_IN, Unit.ARRAY, Fence())
    with builder.loop(5):
        builder.load(ring, **_load_fields())
    builder.end_step()
    queues, _ = builder.finish()
    opcodes = {unit: [i.opcode for i in queue] for unit, queue in queues.items()}
    assert Opcode.LOOP in opcodes[Unit.DMA_IN]
    assert Opcode.LOOP in opcodes[Unit.ARRAY]
    assert opcodes[Unit.VECTOR] == []
    assert opcodes[Unit.DMA_OUT] == []


def test_double_buffering_is_visible_as_a_slot_modulo_two() -> None:
    builder = _builder()
    ring = builder.ring(64, 16, 2, Unit.DMA_IN, Unit.ARRAY, Fence())
    with builder.loop(3), builder.loop(4):
        address = builder.load(ring, **_load_fields())
    assert address == Value(64, (((4, 1, 0, 0), 16, 2),))


def test_a_ring_that_is_never_reused_needs_no_free_semaphore() -> None:
    builder = _builder()
    ring = builder.ring(0, 16, 1, Unit.DMA_IN, Unit.ARRAY, Fence())
    builder.load(ring, **_load_fields())
    builder.end_step()
    queues, _ = builder.finish()
    assert [i.opcode for i in queues[Unit.DMA_IN]] == [Opcode.LOAD, Opcode.SIGNAL]


def test_every_reused_ring_starts_with_a_credit_for_each_slot() -> None:
    builder = _builder()
    ring = builder.ring(0, 16, 2, Unit.DMA_IN, Unit.ARRAY, Fence())
    with builder.loop(5):
        builder.load(ring, **_load_fields())
    builder.end_step()
    queues, _ = builder.finish()
    first = queues[Unit.DMA_IN][0]
    assert (first.opcode, first.fields[1]) == (Opcode.SIGNAL, 2)


def test_neighbouring_steps_use_different_semaphores_and_later_ones_reuse_them() -> None:
    builder = Builder(load_spec("ne-256"))
    seen = []
    for step in range(4):
        builder.begin_step(f"layer{step}", Unit.ARRAY, Fence())
        ring = builder.ring(0, 16, 2, Unit.DMA_IN, Unit.ARRAY, Fence())
        with builder.loop(3):
            builder.load(ring, **_load_fields())
        builder.end_step()
        seen.append((ring.full, ring.free))
    assert seen[0] == seen[2]
    assert seen[1] == seen[3]
    assert not set(seen[0]) & set(seen[1])


def test_code_size_does_not_grow_with_the_number_of_tiles() -> None:
    sizes = []
    for count in (3, 300):
        builder = _builder()
        ring = builder.ring(0, 16, 2, Unit.DMA_IN, Unit.ARRAY, Fence())
        with builder.loop(count):
            builder.load(ring, **_load_fields())
        builder.end_step()
        queues, _ = builder.finish()
        sizes.append(sum(len(queue) for queue in queues.values()))
    assert sizes[0] == sizes[1]


def test_loops_deeper_than_the_hardware_are_refused() -> None:
    builder = _builder()
    with (
        builder.loop(2),
        builder.loop(2),
        builder.loop(2),
        builder.loop(2),
        pytest.raises(UnsupportedError, match="deeper"),
    ):
        builder.loop(2).__enter__()


def test_a_unit_change_between_steps_is_chained_by_a_semaphore() -> None:
    builder = Builder(load_spec("ne-256"))
    builder.begin_step("a", Unit.ARRAY, Fence())
    builder.end_step()
    builder.begin_step("b", Unit.VECTOR, Fence())
    builder.end_step()
    queues, _ = builder.finish()
    waits = [i.fields[0] for i in queues[Unit.VECTOR] if i.opcode is Opcode.WAIT]
    signals = [i.fields[0] for i in queues[Unit.ARRAY] if i.opcode is Opcode.SIGNAL]
    assert set(waits) <= set(signals)
    assert waits
