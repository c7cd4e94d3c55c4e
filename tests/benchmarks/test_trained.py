"""The rules of the benchmark with real training: what seconds pay for, and what its table says."""

import sys
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "search"))
import trained
from trained_row import FEWEST_EPOCHS, MOST_EPOCHS, Clock, Setting

SETTING = Setting(
    target="ne-256", seconds=100.0, trials=10, resolution=32, budget_us=500.0, baseline_us=1000.0,
    seconds_per_image=1e-3, images=1000, validation=300, test=600, device="cpu", knobs={},
    curation_seconds=0.0,
)  # fmt: skip


@given(seconds=st.floats(0.9, 1e5))
def test_a_schedule_never_costs_more_than_the_seconds_it_was_given(seconds: float) -> None:
    epochs, limit = SETTING.schedule(seconds)
    assert FEWEST_EPOCHS <= epochs <= MOST_EPOCHS
    forward = ((epochs + 1) * SETTING.validation + SETTING.test) / 3
    assert (epochs * (limit or SETTING.images) + forward) * SETTING.seconds_per_image <= seconds * (1 + 1e-9)


def test_more_seconds_train_on_all_images_first_and_longer_then() -> None:
    assert SETTING.schedule(2.1) == (3, 500)
    assert SETTING.schedule(3.61) == (3, None)
    assert SETTING.schedule(22.31) == (20, None)


def test_the_clock_goes_on_where_an_earlier_sitting_stopped(tmp_path: Path) -> None:
    (tmp_path / "spent.json").write_text('{"seconds": 40.0}')
    assert Clock(tmp_path / "spent.json").spent() >= 40.0


def _row(strategy: str, seed: int, accuracy: float, compiled: float) -> dict[str, Any]:
    numbers = dict.fromkeys(("predicted_us", "trainings", "search_seconds", "final_seconds", "seconds"), 1.0)
    values = {"budget_us": 500.0, "accuracy_test": accuracy, "compiled_us": compiled}
    return {"strategy": strategy, "seed": seed, **numbers, **values}


def test_the_summary_counts_violations_and_rows_without_a_winner() -> None:
    failed = {"strategy": "hybrid", "seed": 2, "budget_us": 500.0, "failed": "nothing fits", "seconds": 1.0}
    found = trained.summary([_row("hybrid", 0, 0.6, 490.0), _row("hybrid", 1, 0.8, 510.0), failed])["hybrid"]
    assert (found["seeds"], found["failed"], found["violations"]) == (3, 1, 1)
    assert abs(found["accuracy_test"] - 0.7) < 1e-9
    assert abs(found["accuracy_test_sd"] - 0.1) < 1e-9
