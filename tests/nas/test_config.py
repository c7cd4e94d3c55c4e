from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanefit.common.errors import ConfigError
from lanefit.nas.config import SearchConfig, config_from_toml, load_config


def test_the_resolved_file_reads_back_as_the_same_configuration() -> None:
    config = SearchConfig().replaced(
        seed=3,
        budgets={"latency": "2ms", "sram": "512KiB"},
        knobs={"depth": [1, 2], "block": ["ibn"]},
        train={"epochs": 5},
    )
    assert config_from_toml(config.to_toml(), where="x") == config


@given(st.text(max_size=20), st.dictionaries(st.from_regex(r"[a-z_]+", fullmatch=True), st.floats(-1e9, 1e9)))
def test_any_text_and_number_survives_the_file(text: str, settings: dict[str, float]) -> None:
    config = SearchConfig().replaced(task=text, train=settings)
    assert config_from_toml(config.to_toml(), where="x") == config


@pytest.mark.parametrize(
    ("text", "what", "where"),
    [
        ("trials = 'many'", "trials: input should be a valid integer, got 'many'", "s.toml:trials"),
        ("trials = 0", "trials: input should be greater than or equal to 1", "s.toml:trials"),
        ("trails = 10", "unknown key 'trails'", "s.toml:trails"),
        ("workers = 2", "workers: input should be 1", "s.toml:workers"),
        ("objectives = ['speed']", "objectives: input should be 'score' or 'latency'", "s.toml:objectives.0"),
        ("objectives = ['latency']", "objectives must be [score] or [score, latency]", "s.toml:objectives"),
        ("[budgets]\nlatency = 2", "budgets: input should be a valid string, got 2", "s.toml:budgets.latency"),
        ("seed = -1", "seed: input should be greater than or equal to 0", "s.toml:seed"),
        ("trials = ", "not valid TOML", "s.toml"),
    ],
)
def test_a_bad_value_names_file_and_key(text: str, what: str, where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_from_toml(text, where="s.toml")
    assert what in caught.value.what
    assert caught.value.where == where


def test_an_unknown_key_shows_near_matches() -> None:
    with pytest.raises(ConfigError) as caught:
        config_from_toml("trails = 10", where="s.toml")
    assert caught.value.hint.startswith("did you mean trials")


def test_flags_go_over_the_file_and_are_validated_too() -> None:
    assert SearchConfig().replaced(trials=7).trials == 7
    with pytest.raises(ConfigError, match="unknown key 'trails'"):
        SearchConfig().replaced(trails=7)


def test_a_missing_or_binary_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load_config(tmp_path / "absent.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(tmp_path / "binary.toml")


def test_budgets_of_a_configuration_carry_their_units() -> None:
    assert SearchConfig(budgets={"latency": "2ms"}).budget().latency_us == 2000
    with pytest.raises(ConfigError, match="unknown budget 'latncy'"):
        SearchConfig(budgets={"latncy": "2ms"}).budget()
