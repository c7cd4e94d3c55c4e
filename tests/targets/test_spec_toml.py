"""An engine description survives being written and read again."""

from __future__ import annotations

import pytest

from lanefit.targets.spec import load_spec, preset_names, spec_from_toml, spec_to_toml


@pytest.mark.parametrize("name", preset_names())
def test_written_toml_reads_back_as_the_same_engine(name: str) -> None:
    spec = load_spec(name)
    assert spec_from_toml(spec_to_toml(spec), where="test") == spec
