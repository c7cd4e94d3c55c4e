"""Rows of the published latency tables, or a skip with the reason where they are absent."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

_DEFAULT = Path(__file__).parents[2] / "shared" / "data"


def latency_path(name: str) -> Path:
    """`latency/<name>` under `LANEFIT_DATA`."""
    path = Path(os.environ.get("LANEFIT_DATA", _DEFAULT)) / "latency" / name
    if not path.is_file():
        pytest.skip(f"{path.name} is not under LANEFIT_DATA")
    return path


def latency_table(name: str) -> list[dict[str, str]]:
    """Rows of `latency/<name>`."""
    with latency_path(name).open(newline="") as stream:
        return list(csv.DictReader(stream))
