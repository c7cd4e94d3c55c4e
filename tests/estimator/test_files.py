"""Saved estimators: what is refused, and that a hostile file is only data."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from estimator.sample_graphs import small_estimator

from lanefit.common.errors import EstimatorError, LanefitError
from lanefit.estimator.files import load_estimator
from lanefit.targets.spec import load_spec


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "estimator.json"
    small_estimator().save(path)
    return path


def _edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_another_target_is_refused_with_both_names(saved: Path) -> None:
    with pytest.raises(EstimatorError, match=r"fitted for ne-256 \w+, not for ne-1024") as caught:
        load_estimator(saved, load_spec("ne-1024"))
    assert "ne-1024" in caught.value.hint


def test_without_a_target_the_file_says_which(saved: Path) -> None:
    assert load_estimator(saved).spec == load_spec("ne-256")


def test_another_schema_version_is_refused_with_both_versions(saved: Path) -> None:
    _edit(saved, lambda document: document.update(schema_version=9))
    with pytest.raises(EstimatorError, match="schema version 9, this lanefit reads 2"):
        load_estimator(saved)


def test_another_toolchain_is_refused(saved: Path) -> None:
    _edit(saved, lambda document: document["card"].update(toolchain="0" * 16))
    with pytest.raises(EstimatorError, match="toolchain 0000000000000000"):
        load_estimator(saved)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("regressors"),
        lambda d: d["regressors"].pop("slack"),
        lambda d: d["regressors"]["latency"]["forest"].update(left=[-1]),
        lambda d: d["regressors"]["latency"].update(efficiency={"0": 7.0}),
        lambda d: d["regressors"]["latency"]["forest"].update(features=3),
        lambda d: d.update(upper={"by_kind": {"x": 1.0}, "pooled": 1.0}),
        lambda d: d["card"].pop("network"),
        lambda d: d["card"].update(surprise=1),
        lambda d: d["card"]["box"].update(conv2d={}),
        lambda d: d["spec"].update(sram_bytes=-1),
        lambda d: d["spec"].update(clock_mhz=1.0),
        lambda d: d.update(columns=["a"]),
        lambda d: d.update(format="something else"),
        lambda d: d.update(extra=1),
        lambda d: d.clear(),
    ],
    ids=[
        "no-regressors", "no-slack", "bad-tree", "bad-efficiency", "few-features", "bad-bounds", "no-network",
        "unknown-card-key", "empty-box", "bad-spec", "other-spec",
        "other-columns", "other-format", "extra-key", "empty",
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused(saved: Path, change: Callable[[dict[str, Any]], object]) -> None:
    _edit(saved, change)
    with pytest.raises(EstimatorError) as caught:
        load_estimator(saved)
    assert str(saved) in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "\x80"], ids=repr)
def test_a_file_that_is_no_estimator_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "estimator.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(LanefitError):
        load_estimator(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LanefitError, match=r"absent\.json does not exist"):
        load_estimator(tmp_path / "absent.json")
