"""Program files: nothing is lost, and nothing malformed gets through."""

import struct
import zlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from engine_programs import END, SPEC, double_buffered, instruction, loop, program, programs, signal, wait
from hypothesis import given, settings
from hypothesis import strategies as st

from lanefit.common.errors import PackageError
from lanefit.targets.encoding import decode, encode
from lanefit.targets.isa import ISA_VERSION, Instruction, Opcode, Step, Unit
from lanefit.targets.program import Mark, Port, Program
from lanefit.targets.validate import MAX_DRAM_BYTES

DATA = encode(double_buffered())


@given(programs)
def test_decoding_inverts_encoding(built: Program) -> None:
    data = encode(built)
    assert decode(data) == built
    assert encode(decode(data)) == data


def test_equal_programs_give_equal_bytes_whatever_the_order_of_the_queues() -> None:
    built = double_buffered()
    shuffled = replace(built, queues=dict(reversed(built.queues.items())))
    assert encode(shuffled) == DATA
    assert encode(replace(built, spec=replace(SPEC, clock_mhz=100))) == DATA


@settings(max_examples=200)
@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda tail: DATA[:24] + tail))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(PackageError):
        decode(data)


@settings(max_examples=200)
@given(st.integers(0, 8 * len(DATA) - 1))
def test_every_flipped_bit_is_noticed(bit: int) -> None:
    flipped = bytearray(DATA)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(PackageError):
        decode(bytes(flipped))


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(16, len(DATA) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_forged_files_with_a_right_checksum_are_decoded_or_refused(changes: list[tuple[int, int]]) -> None:
    forged = bytearray(DATA)
    for position, value in changes:
        forged[position] = value
    forged[12:16] = struct.pack("<I", zlib.crc32(forged[16:]))
    try:
        decode(bytes(forged))
    except PackageError:
        return


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:10], "truncated: 10 bytes"),
        (lambda data: data[:-1], "truncated or padded"),
        (lambda data: data + b"\0", "truncated or padded"),
        (lambda data: b"PK\3\4" + data[4:], "not a program file"),
        (lambda data: data[:4] + b"\7\0" + data[6:], f"instruction set version 7, this is version {ISA_VERSION}"),
        (lambda data: data[:200] + b"\xff" + data[201:], "checksum"),
    ],
    ids=["short", "cut", "padded", "magic", "version", "damaged"],
)
def test_damage_is_named(change: Callable[[bytes], bytes], message: str) -> None:
    with pytest.raises(PackageError, match=message):
        decode(change(DATA))


def resealed(program_bytes: bytes, old: bytes, new: bytes) -> bytes:
    assert old in program_bytes
    assert len(old) == len(new)
    body = program_bytes[16:].replace(old, new)
    return program_bytes[:12] + struct.pack("<I", zlib.crc32(body)) + body


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"vector_lanes":4', b'"vector_lanes":0', "engine description is not valid: vector_lanes must be positive"),
        (b'"vector_lanes":4', b'"vector_lane":42', "engine description is not valid: unknown key 'vector_lane'"),
        (b'"sram_bytes":256}', b'"sram_bytes":2.5}', "integers dram_bytes and sram_bytes"),
        (b'"inputs":[{', b'"inputs":[[', "ports section is not JSON"),
        (b'"zero_point":0', b'"zero_point":X', "ports section is not JSON"),
        (b'"zero_point":0', b'"zero_punkt":0', "a port has the keys"),
        (b'[[0,0,"negate"]', b'[[9,0,"negate"]', "a mark is"),
        (b"\x10\x02\x00\x00", b"\x11\x02\x00\x00", "STORE cannot run on DMA_IN"),
        (b"\x10\x02\x00\x00", b"\x1f\x02\x00\x00", "unknown opcode 31"),
    ],
)
def test_forged_sections_are_named(old: bytes, new: bytes, message: str) -> None:
    with pytest.raises(PackageError, match=message):
        decode(resealed(DATA, old, new))


def test_deeply_nested_json_is_refused() -> None:
    start = DATA.index(b'{"inputs"')
    size = len(DATA[start : DATA.index(b"}]}", start) + 3])
    with pytest.raises(PackageError, match="ports section is not JSON"):
        decode(resealed(DATA, DATA[start : start + size], b"[" * size))


LOAD = instruction(Opcode.LOAD)
PORT = Port("x", 0, (4,), 1.0, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dma_in": [Instruction(Opcode.CONV)]}, "CONV cannot run on DMA_IN"),
        ({"dma_in": [Instruction(Opcode.LOAD, (1, 2))]}, "LOAD has 20 fields, got 2"),
        ({"dma_in": [instruction(Opcode.LOAD, count0=2**31)]}, "does not fit 32 bits"),
        ({"dma_in": [loop(2), LOAD]}, "1 LOOP without END"),
        ({"dma_in": [END]}, "END without LOOP"),
        ({"dma_in": [loop(0), END]}, "LOOP count must be at least 1, got 0"),
        ({"dma_in": [loop(2)] * 5 + [END] * 5}, "loops nest deeper than 4"),
        ({"dma_in": [loop(2**11), loop(2**11), LOAD, END, END]}, "would execute 8392705 instructions"),
        ({"dma_in": [wait(16)]}, "semaphore 16 does not exist, the engine has 16"),
        ({"dma_in": [signal(-1)]}, "semaphore -1 does not exist"),
        ({"dma_in": [signal(0, -1)]}, "cannot count by -1"),
        ({"dma_in": [replace(LOAD, steps=(Step(20, (0, 0, 0, 0), 1),))]}, "field 20 that LOAD lacks"),
        ({"dma_in": [replace(LOAD, steps=(Step(0, (1, 0, 0, 0), 1),))]}, "a loop deeper than the 0 around"),
        ({"dma_in": [loop(2), replace(LOAD, steps=(Step(0, (1, 1, 0, 0), 1),)), END]}, "deeper than the 1 around"),
        ({"dma_in": [replace(LOAD, steps=(Step(0, (0, 0, 0, 0), 1, -2),))]}, "modulo of a step must not be negative"),
        ({"dma_in": [replace(LOAD, steps=(Step(0, (0, 0, 0, 0), 2**31),))]}, "a step does not fit 32 bits"),
        ({"dma_in": [replace(LOAD, steps=(Step(0, (0, 0, 0, 0), 1),) * 256)]}, "at most 255 steps, got 256"),
        ({"dma_in": [replace(loop(2), steps=(Step(0, (0, 0, 0, 0), 1),)), END]}, "cannot depend on other loops"),
        ({"dram_bytes": MAX_DRAM_BYTES + 1}, "dram_bytes 2147483649 are outside"),
        ({"constants": bytes(9), "dram_bytes": 8}, "9 bytes of constants exceed dram_bytes 8"),
        ({"sram_bytes": SPEC.sram_bytes + 1}, r"sram_bytes 65537 are outside of 0\.\.65536, the SRAM of tiny"),
        ({"inputs": [PORT, replace(PORT, address=4)]}, "two inputs have one name"),
        ({"inputs": [PORT, replace(PORT, name="z", address=3)]}, "inputs 'x' and 'z' overlap"),
        ({"inputs": [replace(PORT, memory="flash")]}, "a port lies in dram or sram, got 'flash'"),
        ({"inputs": [replace(PORT, memory="sram", address=10**6)]}, r"lie outside of the SRAM 0\.\."),
        ({"inputs": [replace(PORT, address=4093)]}, r"bytes 4093\.\.4097 lie outside of the free DRAM 0\.\.4096"),
        ({"outputs": [PORT], "constants": b"1"}, r"lie outside of the free DRAM 1\.\.4096"),
        ({"inputs": [replace(PORT, shape=(2, 0))]}, "positive extents"),
        ({"inputs": [replace(PORT, scale=float("nan"))]}, "scale must be positive and finite, got nan"),
        ({"inputs": [replace(PORT, zero_point=128)]}, "zero point must be an int8, got 128"),
        ({"inputs": [replace(PORT, dtype="float32")]}, "unknown element type 'float32'"),
        ({"inputs": [replace(PORT, dtype="int16", zero_point=3)]}, "int16 has the zero point 0, got 3"),
        ({"inputs": [replace(PORT, dtype="bf16", scale=0.5, zero_point=0)]}, r"bf16 has the scale 1, got 0\.5"),
        ({"inputs": [replace(PORT, name="")]}, "needs a name"),
        ({"marks": [Mark(Unit.ARRAY, 1, "conv1")]}, "mark 'conv1' points outside of its queue"),
    ],
)
def test_malformed_programs_are_not_written(changes: dict, message: str) -> None:
    queue = changes.pop("dma_in", [LOAD])
    built = program({Unit.DMA_IN: queue}, **changes)
    changes["dma_in"] = queue
    with pytest.raises(PackageError, match=message):
        encode(built)


def test_faulty_instructions_are_located() -> None:
    with pytest.raises(PackageError, match=r"END without LOOP\n  at DMA_OUT instruction 1"):
        encode(program({Unit.DMA_OUT: [signal(0), END]}))


def test_a_missing_queue_is_named() -> None:
    built = double_buffered()
    queues = {unit: queue for unit, queue in built.queues.items() if unit is not Unit.ARRAY}
    with pytest.raises(PackageError, match="missing: ARRAY"):
        encode(replace(built, queues=queues))


def test_values_that_a_file_cannot_hold_are_refused() -> None:
    with pytest.raises(PackageError, match="a value that its file cannot"):
        encode(program({Unit.DMA_IN: [instruction(Opcode.LOAD, dram_addr=0.5)]}))  # type: ignore[arg-type]
