"""Errors, units, registry and files keep their contracts."""

from pathlib import Path

import pytest

from lanefit.common.errors import ConfigError, InputError, ProgramFault, UnknownNameError
from lanefit.common.files import canonical_json, stable_hash, write_atomic, write_json
from lanefit.common.registry import Registry
from lanefit.common.units import cycles_to_us, format_bytes, parse_bytes, parse_time_us, us_to_cycles


def test_an_error_shows_what_where_and_hint_on_three_lines() -> None:
    error = InputError("it is broken", where="file.toml:key", hint="mend it")
    assert str(error) == "it is broken\n  at file.toml:key\nhint: mend it"
    assert error.as_dict() == {"code": "input", "what": "it is broken", "where": "file.toml:key", "hint": "mend it"}


def test_errors_survive_the_border_between_processes() -> None:
    error = UnknownNameError("target", "ne-265", ["ne-256", "ne-64"])
    rebuild, arguments = error.__reduce__()
    copy = rebuild(*arguments)  # type: ignore[operator]
    assert type(copy) is UnknownNameError
    assert str(copy) == str(error)


def test_exit_codes_follow_the_kind_of_error() -> None:
    assert (InputError("x").exit_code, ProgramFault("x").exit_code) == (2, 3)


def test_an_unknown_name_lists_near_matches_and_known_names() -> None:
    registry: Registry[int] = Registry("kernel", {"conv2d": 1, "depthwise": 2})
    with pytest.raises(UnknownNameError, match="did you mean conv2d"):
        registry.get("conv2")


def test_a_name_cannot_be_registered_twice() -> None:
    registry: Registry[int] = Registry("kernel", {"conv2d": 1})
    with pytest.raises(InputError, match="twice"):
        registry.add("conv2d", 2)


def test_a_dotted_entry_is_imported_on_first_use() -> None:
    registry: Registry[object] = Registry("thing", {"pi": "math:pi"})
    assert registry.get("pi") == pytest.approx(3.14159, abs=1e-4)


@pytest.mark.parametrize(("text", "expected"), [("2ms", 2000.0), ("800us", 800.0), ("0.5 s", 5e5), ("1e3ns", 1.0)])
def test_times_are_read_with_their_unit(text: str, expected: float) -> None:
    assert parse_time_us(text) == expected


@pytest.mark.parametrize(("text", "expected"), [("512KiB", 524288), ("1MB", 1_000_000), ("12B", 12)])
def test_sizes_are_read_with_their_unit(text: str, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["512", "2 parsecs", "", "ms", "-3ms"])
def test_a_quantity_without_a_known_unit_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="with a unit"):
        parse_time_us(text)


def test_cycles_and_microseconds_convert_back() -> None:
    assert us_to_cycles(cycles_to_us(1234.0, 500.0), 500.0) == 1234.0
    assert format_bytes(2048) == "2.0 KiB"


def test_equal_values_hash_equally_whatever_their_order() -> None:
    assert stable_hash({"a": 1, "b": 2}) == stable_hash({"b": 2, "a": 1})
    assert canonical_json({"b": 1, "a": 2}) == '{"a":2,"b":1}'


def test_a_failed_write_leaves_the_old_file_whole(tmp_path: Path) -> None:
    target = tmp_path / "run.json"
    write_json(target, {"state": "old"})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(target, {"state": float("nan")})
    assert "old" in target.read_text()
    write_atomic(target, b"new")
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]
