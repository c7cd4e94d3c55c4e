"""The benchmark of zero-shot scores on a table and images made here."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lanefit.common.errors import TableError
from lanefit.models.nas_bench_201 import NAS_BENCH_201, format_architecture
from lanefit.nas.proxies import DEFAULT_PROXIES

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "search"))
import zero_shot


def _table(path: Path, values: list[str]) -> Path:
    random = np.random.default_rng(0)
    cells = [format_architecture(NAS_BENCH_201.sample(random)) for _ in values]
    rows = [f"{cell},{value}" for cell, value in zip(cells, values, strict=True)]
    path.write_text("\n".join(["arch_str,accuracy", *rows]) + "\n")
    return path


def _images(folder: Path) -> Path:
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for index in range(5):
            Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / name / f"{index}.png")
    return folder


def test_the_sample_follows_from_the_seed_and_leaves_out_rows_without_a_value(tmp_path: Path) -> None:
    table = _table(tmp_path / "t.csv", ["1", "", "nan", "4", "5", "6", "7"])
    first, again, other = (zero_shot.read_table(table, "accuracy", 4, seed) for seed in (0, 0, 1))
    assert first.labels == again.labels != other.labels
    assert set(first.labels) <= {1, 4, 5, 6, 7}


@pytest.mark.parametrize(("column", "count", "what"), [("acc", 2, "'acc' is missing"), ("accuracy", 9, "3 rows have")])
def test_a_table_that_cannot_be_used_is_refused(tmp_path: Path, column: str, count: int, what: str) -> None:
    with pytest.raises(TableError, match=what):
        zero_shot.read_table(_table(tmp_path / "t.csv", ["1", "2", "3"]), column, count, 0)


def test_it_writes_every_figure_of_every_proxy_and_of_the_combination(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, images = _table(tmp_path / "t.csv", ["91.5", "10", "70"]), _images(tmp_path / "images")
    options = [
        "--table", str(table), "--column", "accuracy", "--count", "3", "--batch", "2", "--proxies", "params",
        "--dataset", str(images), "--json", str(tmp_path / "out.json"),
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["zero_shot.py", *options])
    zero_shot.main()
    found = json.loads((tmp_path / "out.json").read_text())
    assert set(found["proxies"]) == {"params", *DEFAULT_PROXIES}
    for row in (*found["proxies"].values(), found["combined"]):
        assert {"spearman", "kendall", "size_controlled", "seconds_per_net"} <= set(row)
        assert row["seconds_per_net"] > 0
    assert found["combined"]["of"] == list(DEFAULT_PROXIES)
    assert found["environment"]["seeds"] == {"seed": 0}
