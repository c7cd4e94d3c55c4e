"""Engine descriptions: presets agree with themselves, errors name file and key."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from engine_programs import SPEC
from hypothesis import given
from hypothesis import strategies as st

from lanefit.common.errors import ConfigError, SpecError, UnknownNameError
from lanefit.targets.spec import load_spec, preset_names, spec_from_dict

TOML = """
[engine]
name = "mine"
clock_mhz = 200
[array]
input_lanes = 8
output_lanes = 8
[output]
elements_per_cycle = 4
[vector]
lanes = 8
[memory]
sram_bytes = 65536
sram_bytes_per_cycle = 16
dram_bytes_per_cycle = 4
"""


PARALLELISM = {  # designs whose name does not end in their multiply-accumulates per cycle: from their descriptions
    "gemmini-16x16": 256, "systolic-16x16": 256, "systolic-32x32": 1024, "vta-default": 256,
    "nvdla-small": 64, "nvdla-large": 2048,
}  # fmt: skip


@pytest.mark.parametrize("name", preset_names())
def test_presets_agree_with_their_names(name: str) -> None:
    spec = load_spec(name)
    assert spec.name == name
    assert spec.parallelism == (PARALLELISM[name] if name in PARALLELISM else int(name.rpartition("-")[2]))
    assert spec_from_dict(spec.as_dict()) == spec
    assert spec_from_dict(spec.as_dict()).digest() == spec.digest()


def test_the_family_is_complete() -> None:
    ethos = {f"ethos-u55-{macs}" for macs in (32, 64, 128, 256)} | {"ethos-u65-512"}
    assert {"ne-64", "ne-256", "ne-1024", "ne-4096"} | ethos | set(PARALLELISM) == set(preset_names())


def test_a_file_needs_only_what_has_no_default(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TOML)
    spec = load_spec(str(path))
    assert (spec.parallelism, spec.clock_mhz, spec.weight_bytes_per_cycle) == (64, 200.0, 16.0)


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ("[vector]", "[vektor]", ConfigError, r"unknown section \[vektor\]\n  at .*mine.toml:vektor\nhint: known: e"),
        ("\nlanes =", "\nlane =", ConfigError, r"unknown key 'lane' in \[vector\]\n  at .*mine.toml:vector.lane"),
        ("= 200", "= '200'", ConfigError, r"clock_mhz must be float, got '200'\n  at .*mine.toml:clock_mhz"),
        ("= 65536", "= 6.5", ConfigError, r"sram_bytes must be int, got 6.5\n  at .*mine.toml:sram_bytes"),
        ("sram_bytes = 65536", "sram_bytes = true", ConfigError, "sram_bytes must be int, got True"),
        ("sram_bytes = 65536", "sram_bytes = 1" + "0" * 30, ConfigError, "sram_bytes is larger than"),
        ("clock_mhz = 200", "", ConfigError, "missing clock_mhz"),
        ("[engine]", "[engine", ConfigError, "not valid TOML"),
        ("output_lanes = 8", "output_lanes = 8\nfolds = 8", ConfigError, "folds must be a list of lists"),
        ("output_lanes = 8", "output_lanes = 8\nfolds = [[8]]", ConfigError, r"of 2 integers, got \[8\] in it"),
        ("output_lanes = 8", "output_lanes = 8\nfolds = [[8, true]]", ConfigError, "folds must be int, got True"),
        ("= 65536", "= 65536\nspill = 1", ConfigError, r"spill must be bool, got 1\n  at .*mine.toml:spill"),
        ("lanes = 8", "lanes = 0", SpecError, "input_lanes must be positive and finite, got 0"),
        ("clock_mhz = 200", "clock_mhz = inf", SpecError, "clock_mhz must be positive and finite, got inf"),
        ("clock_mhz = 200", "clock_mhz = nan", SpecError, "clock_mhz must be positive and finite, got nan"),
        ("dram_bytes_per_cycle = 4", "dram_bytes_per_cycle = 32", SpecError, "are below dram_bytes_per_cycle 32.0"),
    ],
)  # fmt: skip
def test_errors_name_file_and_key(old: str, new: str, error: type[Exception], message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    assert old in TOML
    path.write_text(TOML.replace(old, new))
    with pytest.raises(error, match=message):
        load_spec(str(path))


def test_absent_and_binary_files_are_config_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load_spec(str(tmp_path / "none.toml"))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_spec(str(tmp_path / "binary.toml"))


def test_unknown_target_lists_the_presets() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown target 'ne-265'\nhint: did you mean ne-256"):
        load_spec("ne-265")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depthwise_taps": 5}, "depthwise_taps 5 exceed input_lanes 4"),
        ({"accumulator_bytes": 15}, "accumulator_bytes 15 hold less than one int32 micro-block, 16"),
        ({"sram_banks": 3}, "sram_bytes 65536 do not divide into sram_banks 3"),
        ({"issue_cycles": -1}, "issue_cycles must be finite and must not be negative, got -1"),
        ({"folds": ((4, 2),)}, "4 channels x 2 taps is 8, input_lanes 4 x step_cycles 1 is 4"),
        ({"folds": ((-2, -2),)}, "folds must hold positive numbers"),
        ({"micro_blocks": ((1, 1, 4), (2, 2, 2))}, "2 x 2 x 2 is 8, positions 1 x output_lanes 4 is 4"),
        ({"dataflow": "row-stationary"}, "dataflow 'row-stationary' is none of weight-stationary, block, out"),
        ({"dataflow": "output-stationary"}, "sums one product per place and cycle, input_lanes is 4"),
        ({"dataflow": "block", "micro_blocks": ((1, 1, 4), (1, 2, 2))}, "has one micro-block, micro_blocks lists 2"),
        ({"pool_elements_per_cycle": 2.0}, "only dataflow 'block' pools on the array: pool_elements_per_cycle is 2.0"),
        ({"io_memory": "flash"}, "io_memory 'flash' is none of dram, sram"),
        ({"flash_bytes_per_cycle": 17}, "sram_bytes_per_cycle 16.0 are below flash_bytes_per_cycle 17.0"),
        ({"semaphores": 65537}, "semaphores 65537 exceed 65536"),
    ],
)
def test_contradictions_state_both_sides(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        replace(SPEC, **changes)


@given(st.integers(1, 64), st.integers(1, 64), st.integers(1, 4), st.integers(1, 4))
def test_parallelism_is_the_product_of_the_unrolled_dimensions(i: int, o: int, h: int, w: int) -> None:
    spec = replace(SPEC, input_lanes=i, output_lanes=o, positions_h=h, positions_w=w, weight_bytes_per_cycle=0.0)
    assert spec.parallelism == i * o * h * w
    assert spec.weight_bytes_per_cycle == i * o / 4
    assert spec.channel_multiple == max(i, o)


def test_a_block_holds_its_step_of_channels_and_whole_micro_blocks() -> None:
    spec = load_spec("ethos-u55-128")
    for change in ({"block_c": 8}, {"block_c": 20}):
        with pytest.raises(SpecError, match="must be a multiple of the 8 channels"):
            replace(spec, **change)


def test_rates_beyond_counting_are_refused() -> None:
    with pytest.raises(SpecError, match="softmax_passes 1e\\+308 is above"):
        replace(load_spec("ne-64"), softmax_passes=1e308)
