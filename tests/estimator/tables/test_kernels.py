import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanefit.common.errors import TableError
from lanefit.estimator.opgraph.operator import Kind
from lanefit.estimator.tables.kernels import checked, read_kernels

HEADER = "conv_type,batch,cin,h,w,cout,k,stride,elmtfused,ms"
GOOD = "Regular,32,64,14,14,128,3,2,1,0.25"
FLAT = "kind,batch,cin,h,w,cout,k,stride,dtype,fused,latency_us"


def written(folder: Path, *lines: str) -> Path:
    path = folder / "kernels.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_row_becomes_an_operator_and_microseconds(tmp_path: Path) -> None:
    (kernel,) = checked(read_kernels(written(tmp_path, HEADER, GOOD), dtype="int8"))
    operator = kernel.operator
    assert (operator.kind, operator.dtype, operator.fused) == (Kind.CONV, "int8", (Kind.ADD,))
    assert operator.output == (32, 128, 7, 7)
    assert operator.macs == 32 * 128 * 7 * 7 * 64 * 9
    assert (kernel.latency_us, kernel.row) == (250.0, 2)


def test_depthwise_rows_have_a_group_for_every_channel(tmp_path: Path) -> None:
    (kernel,) = checked(read_kernels(written(tmp_path, HEADER, "Depthwise,1,32,8,8,32,5,1,0,0.01")))
    assert kernel.operator.kind == Kind.DEPTHWISE
    assert kernel.operator.macs == 32 * 64 * 25


@pytest.mark.parametrize(
    ("line", "kind", "macs"),
    [
        ("conv,1,8,4,4,16,1,1,int8,relu,3", "conv", 8 * 16 * 16),
        ("linear,2,8,1,1,10,,,float32,,3", "linear", 2 * 8 * 10),
        ("max-pool,1,8,4,4,,2,2,int8,,3", "max-pool", 0),
        ("global-pool,1,8,4,4,,,,int8,,3", "global-pool", 0),
        ("add,1,8,4,4,,,,int8,relu,3", "add", 0),
        ("gelu,1,8,4,4,,,,float32,,3", "gelu", 0),
    ],
)
def test_kinds_are_read_with_the_columns_that_they_need(tmp_path: Path, line: str, kind: str, macs: int) -> None:
    (kernel,) = checked(read_kernels(written(tmp_path, FLAT, line)))
    assert (kernel.operator.kind, kernel.operator.macs, kernel.latency_us) == (kind, macs, 3.0)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("Regular,32,64,14,14,128,3,2,1,-0.25", "ms is -0.25; a latency is positive"),
        ("Regular,32,64,14,14,128,3,2,1,0", "ms is 0; a latency is positive"),
        ("Regular,32,64,14,14,128,3,2,1,", "ms is empty"),
        ("Regular,32,64,14,14,128,3,2,1,nan", "not a finite number"),
        ("Regular,32,64,14,14,128,3,2,1,inf", "not a finite number"),
        ("Regular,32,64,14,14,128,3,2,1,0.25us", "units belong into the name of the column"),
        ("Regular,32,64,14,14,128,3,2,1,9e9", "more than an hour"),
        ("Regular,32,64,14,14,128,3,2,1", "9 cells under 10 columns"),
        ("Regular,32,64.5,14,14,128,3,2,1,0.25", "cin is '64.5', not a whole number"),
        ("Regular,32,64,14,14,128,0,2,1,0.25", "k is '0', not a whole number"),
        ("Regular,32,64,14,14,128,3,2,7,0.25", "elmtfused is 7"),
        ("Winograd,32,64,14,14,128,3,2,1,0.25", "'Winograd' is unknown; known: depthwise, regular"),
        ("Depthwise,1,32,8,8,48,5,1,0,0.01", "32 groups do not divide 32 and 48 channels"),
        (GOOD, "the operator of row 2 again"),
    ],
)
def test_bad_rows_are_refused_with_their_numbers(tmp_path: Path, bad: str, message: str) -> None:
    table = read_kernels(written(tmp_path, HEADER, GOOD, "", bad))
    assert len(table.kernels) == 1
    with pytest.raises(TableError, match=r"row 4 of kernels\.csv") as caught:
        checked(table)
    assert message in caught.value.what
    assert caught.value.where.endswith("kernels.csv:4")


def test_all_bad_rows_are_counted_and_listed(tmp_path: Path) -> None:
    bad = [f"Regular,1,{n},14,14,128,3,2,1,-1" for n in range(1, 21)]
    with pytest.raises(TableError, match=r"20 rows cannot be used: 3, 4, 5, .* and 8 more"):
        checked(read_kernels(written(tmp_path, HEADER, GOOD, *bad)))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("conv_type,batch,cin,h,w,cout,k,stride,elmtfused,latency", "no latency with a unit in its name"),
        ("conv_type,batch,cin,h,w,cout,k,stride,latency_us,ms", "several latencies"),
        ("conv_type,batch,cin,h,w,cout,k,k,elmtfused,ms", "two columns called k"),
        ("type,batch,cin,h,w,cout,k,stride,elmtfused,ms", "needs one column conv_type or kind"),
        ("conv_type,batch,h,w,cout,k,stride,x,elmtfused,ms", "no column cin"),
        ("conv_type,batch,,h,w,cout,k,stride,elmtfused,ms", "header that names every column"),
    ],
)
def test_tables_with_the_wrong_columns_are_refused(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(TableError, match=message):
        read_kernels(written(tmp_path, header, GOOD))


def test_a_column_of_units_must_agree_with_the_name_of_the_latency(tmp_path: Path) -> None:
    lines = (HEADER + ",unit", GOOD + ",ms", "Regular,1,64,14,14,128,3,2,1,250,us")
    with pytest.raises(TableError, match=r"row 3 .*units are mixed"):
        checked(read_kernels(written(tmp_path, *lines)))


def test_an_unknown_kind_is_refused_and_never_free(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"kind 'fft' is unknown; known: .*conv"):
        checked(read_kernels(written(tmp_path, FLAT, "fft,1,8,4,4,16,1,1,int8,,3")))


def test_an_absent_file_and_an_empty_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="cannot read"):
        read_kernels(tmp_path / "absent.csv")
    with pytest.raises(TableError, match="no rows"):
        read_kernels(written(tmp_path, HEADER))


@given(st.binary(max_size=300), st.integers(0, 120))
def test_damaged_text_is_a_typed_error_or_a_problem_of_a_row(
    tmp_path_factory: pytest.TempPathFactory, damage: bytes, position: int
) -> None:
    text = f"{HEADER}\n{GOOD}\n{GOOD.replace('64', '96')}\n".encode()
    path = tmp_path_factory.mktemp("fuzz") / "kernels.csv"
    path.write_bytes(text[:position] + damage + text[position + len(damage) :])
    with contextlib.suppress(TableError):
        assert all(kernel.latency_us > 0 for kernel in checked(read_kernels(path)))
