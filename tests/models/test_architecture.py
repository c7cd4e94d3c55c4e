from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanefit.common.errors import ConfigError, InputError
from lanefit.models.architecture import Architecture, read_architecture

names = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,8}", fullmatch=True)
words = st.from_regex(r"[A-Za-z0-9_.+-]{1,8}", fullmatch=True)
values = st.one_of(st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False), words)
architectures = st.dictionaries(names, values).map(lambda knobs: Architecture.of("some-family", knobs))


@given(architectures)
def test_json_and_toml_give_back_the_same_architecture(architecture: Architecture) -> None:
    assert Architecture.from_json(architecture.to_json()) == architecture
    assert Architecture.from_toml(architecture.to_toml()) == architecture
    assert Architecture.from_dict(architecture.as_dict()).digest() == architecture.digest()


@given(st.dictionaries(names, values, min_size=2))
def test_the_order_of_knobs_does_not_matter(knobs: dict[str, int | float | str]) -> None:
    backwards = dict(reversed(knobs.items()))
    assert Architecture.of("f", knobs).digest() == Architecture.of("f", backwards).digest()


def test_whole_floats_and_integers_are_one_value() -> None:
    assert Architecture.of("f", width=1.0).digest() == Architecture.of("f", width=1).digest()
    assert Architecture.of("f", width=0.5).values == {"width": 0.5}


def test_the_digest_never_changes() -> None:
    assert Architecture.of("ibn-classifier", stages=3, activation="relu6").digest() == "a4917c1da89cccb8"


def test_values_can_be_replaced() -> None:
    architecture = Architecture.of("f", {"depth": 2}, kernel=3)
    assert architecture.with_values(kernel=5).values == {"depth": 2, "kernel": 5}


@pytest.mark.parametrize(
    ("document", "where", "what"),
    [
        ({"family": "f", "knobs": {"depth": True}}, "net.toml:knobs.depth", "got True"),
        ({"family": "f", "knobs": {"depth": [1]}}, "net.toml:knobs.depth", r"got \[1\]"),
        ({"family": "f", "knobs": {"depth": float("nan")}}, "net.toml:knobs.depth", "got nan"),
        ({"family": "f", "knobs": {"a b": 1}}, "net.toml", "'a b' is malformed"),
        ({"family": "f", "knobs": 3}, "net.toml:knobs", "must be a table"),
        ({"family": 3, "knobs": {}}, "net.toml:family", "must be a name"),
        ({"family": "No Name", "knobs": {}}, "net.toml", "not a family name"),
        ({"family": "f", "knobs": {}, "knob": {}}, "net.toml:knob", "unknown key 'knob'"),
    ],
)
def test_malformed_documents_are_refused_with_file_and_key(document: dict[str, object], where: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what) as caught:
        Architecture.from_dict(document, where="net.toml")
    assert caught.value.where == where


def test_a_knob_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="given twice"):
        Architecture("f", (("depth", 1), ("depth", 2)))


@pytest.mark.parametrize(("name", "text"), [("a.toml", "family = "), ("a.json", "{"), ("b.json", "[1]")])
def test_a_broken_file_is_refused_with_its_path(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_architecture(tmp_path / name)
    assert caught.value.where == str(tmp_path / name)


def test_files_are_read_by_their_suffix(tmp_path: Path) -> None:
    architecture = Architecture.of("f", depth=2, block="ibn")
    (tmp_path / "a.toml").write_text(architecture.to_toml())
    (tmp_path / "a.json").write_text(architecture.to_json())
    assert read_architecture(tmp_path / "a.toml") == read_architecture(tmp_path / "a.json") == architecture
    with pytest.raises(ConfigError, match="neither TOML nor JSON"):
        read_architecture(tmp_path / "a.yaml")
    with pytest.raises(InputError, match=r"cannot read absent\.toml"):
        read_architecture(tmp_path / "absent.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_architecture(tmp_path / "bytes.toml")
