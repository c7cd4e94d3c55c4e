"""An engine description survives being written and read again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lanefit.targets.spec import load_spec, preset_names, spec_from_dict, spec_from_toml, spec_to_toml


@pytest.mark.parametrize("name", preset_names())
def test_written_toml_reads_back_as_the_same_engine(name: str) -> None:
    spec = load_spec(name)
    assert spec_from_toml(spec_to_toml(spec), where="test") == spec


def test_lists_and_switches_survive_the_file() -> None:
    spec = replace(
        load_spec("ne-64"),
        folds=((8, 1), (4, 2)),
        micro_blocks=((1, 1, 8), (2, 2, 2)),
        spill=False,
        io_memory="sram",
        flash_bytes_per_cycle=0.5,
    )
    read = spec_from_toml(spec_to_toml(spec), where="test")
    assert read == spec
    assert (read.digest(), hash(read)) == (spec.digest(), hash(spec))
    assert spec_from_dict(spec.as_dict()) == spec
