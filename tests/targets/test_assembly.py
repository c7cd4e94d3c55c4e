"""Programs as text: readable, and without loss."""

import pytest
from engine_programs import double_buffered, programs
from hypothesis import given
from hypothesis import strategies as st

from lanefit.common.errors import PackageError
from lanefit.targets.assembly import assemble, assemble_instruction, disassemble, disassemble_instruction
from lanefit.targets.isa import FIELDS, Instruction, Opcode, Step
from lanefit.targets.program import Program


@given(programs)
def test_assembling_inverts_disassembling(built: Program) -> None:
    assert assemble(disassemble(built)) == built


def test_a_listing_reads_as_a_nest_of_loops() -> None:
    listing = disassemble(double_buffered())
    assert (
        """queue DMA_IN
    mark 0 "negate"
    LOOP count=6
        WAIT semaphore=1 count=1
        LOAD count0=1"""
        in listing
    )
    assert "dram_addr+=64*(1*L0) sram_addr+=64*((1*L0)%2)\n        SIGNAL count=1\n    END\nqueue ARRAY\n" in listing


def test_steps_show_their_sum_and_modulo() -> None:
    sram_addr = FIELDS[Opcode.LOAD].index("sram_addr")
    steps = (Step(sram_addr, (1, 3, 0, -2), -4096, 2), Step(sram_addr, (0, 0, 0, 0), 7))
    load = Instruction(Opcode.LOAD, (0,) * 20, steps)
    text = "LOAD sram_addr+=-4096*((1*L0+3*L1+-2*L3)%2) sram_addr+=7*(0)"
    assert disassemble_instruction(load) == text
    assert assemble_instruction(text) == load


def test_constants_can_be_left_out_for_reading_only() -> None:
    listing = disassemble(double_buffered(), constants=False)
    assert listing.splitlines()[-1].startswith("constants 0 sha256:e3b0c442")
    with pytest.raises(PackageError, match="omits the constants"):
        assemble(listing)


def test_comments_end_at_the_line_and_not_inside_of_labels() -> None:
    listing = (
        disassemble(double_buffered()).replace('mark 0 "negate"', 'mark 0 "a;\\"b" ; a remark').replace("END", "END;")
    )
    assert assemble(listing).marks[0].label == 'a;"b'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("LOOP count=6", "LOUP count=6", "unknown instruction 'LOUP'"),
        ("LOOP count=6", "LOOP amount=6", "LOOP has no field 'amount'"),
        ("LOOP count=6", "LOOP count:6", "'count:6' is neither"),
        ("(1*L0)", "(1*L4)", "'1\\*L4' is not coefficient"),
        ("(1*L0)", "(L0)", "'L0' is not coefficient"),
        ("queue ARRAY", "queue TENSOR", "unknown unit 'TENSOR'"),
        ("queue DMA_IN", "; nothing", "an instruction outside of a queue"),
        ("memory dram_bytes=768", "memory", "lacks its engine or memory line"),
        ("constants 0", "constants 5", "0 of 5 bytes of constants"),
        ("constants 0", "constants 1\n    zz", "non-hexadecimal"),
        ('mark 1 "', 'mark 0 "', "mark 0 is given twice"),
        ('mark 0 "negate"', "mark 0 7", "a label is text, got 7"),
        ('mark 0 "negate"', "mark 0 x", "Expecting value"),
        ('mark 0 "negate"', 'mark zero "negate"', "invalid literal"),
        ("engine {", "engine [{", "line 2: engine"),
        ("END", "", "LOOP without END"),
        ('"zero_point":0', '"zero_point":"0"', "zero_point of a port must be int"),
    ],
)
def test_errors_name_the_line(old: str, new: str, message: str) -> None:
    listing = disassemble(double_buffered())
    assert old in listing
    with pytest.raises(PackageError, match=message):
        assemble(listing.replace(old, new))


def test_notes_are_comments_whatever_they_hold() -> None:
    built = double_buffered()
    listing = disassemble(built, notes={"negate": 'Conv "a";\nLOOP', "absent": "nothing"})
    assert 'mark 0 "negate"  ; Conv \\"a\\";\\nLOOP' in listing
    assert "nothing" not in listing
    assert assemble(listing) == built


@given(st.text(max_size=200) | st.text(alphabet='enginmoryquput {}[]=+*()%L019;"\n', max_size=200))
def test_arbitrary_text_is_refused(text: str) -> None:
    with pytest.raises(PackageError):
        assemble(text)
