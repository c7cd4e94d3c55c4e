from pathlib import Path

import pytest

from lanefit.common.errors import TableError
from lanefit.estimator.tables.networks import read_networks


def written(folder: Path, *lines: str) -> Path:
    for name in ("a.onnx", "b.onnx"):
        (folder / name).write_bytes(b"")
    path = folder / "networks.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_networks_are_found_beside_the_list(tmp_path: Path) -> None:
    first, second = read_networks(written(tmp_path, "onnx,latency_ms", "a.onnx,1.5", "b.onnx,2"))
    assert (first.onnx, first.name, first.latency_us) == (tmp_path.resolve() / "a.onnx", "a", 1500.0)
    assert (second.latency_us, second.row) == (2000.0, 3)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("c.onnx,1", "c.onnx is no file beside the list"),
        (",1", "onnx is empty"),
        ("b.onnx,-1", "a latency is positive"),
        ("b.onnx", "1 cells under 2 columns"),
        ("a.onnx,3", "a.onnx again, see row 2"),
        ("./a.onnx,3", "a.onnx again, see row 2"),
    ],
)
def test_bad_rows_of_a_list_are_refused(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(TableError, match=r"row 3 of networks\.csv") as caught:
        read_networks(written(tmp_path, "onnx,latency_ms", "a.onnx,1.5", line))
    assert message in caught.value.what


def test_a_list_without_the_column_onnx_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no column onnx"):
        read_networks(written(tmp_path, "model,latency_ms", "a.onnx,1.5"))
