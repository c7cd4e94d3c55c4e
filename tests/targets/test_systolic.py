"""The output-stationary dataflow, and SCALE-Sim's table where it is at hand."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanefit.targets.cost import Elements, conv_work, matmul_work
from lanefit.targets.spec import load_spec

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "engine"))
from scalesim_layers import compare

TABLE = Path(os.environ.get("LANEFIT_REFERENCE", Path(__file__).parents[3] / "shared" / "golden")) / "npu"
TABLE /= "scalesim_layers.csv"
SPEC = load_spec("systolic-16x16")
extents = st.integers(1, 70)


def test_one_fold_takes_its_products_and_the_skew() -> None:
    work = conv_work(SPEC, 4, 4, 16, 10, 3, 3, depthwise=False, residual=False)
    assert work.array == 90 + 16 + 16 - 2
    assert work.sram == (90 * 16 + 90 * 16 + 256) / SPEC.sram_bytes_per_cycle


@given(extents, extents, extents, st.booleans())
def test_no_layer_beats_the_multipliers(positions: int, channels: int, inputs: int, depthwise: bool) -> None:
    work = conv_work(SPEC, positions, 1, channels, inputs, 3, 3, depthwise=depthwise, residual=False)
    assert work.array * SPEC.parallelism >= positions * channels * 9 * (1 if depthwise else inputs)


@given(extents, extents, extents)
def test_a_depthwise_channel_costs_a_fold_for_itself(positions: int, channels: int, inputs: int) -> None:
    one = conv_work(SPEC, positions, 1, 1, inputs, 3, 3, depthwise=True, residual=False)
    all_of_them = conv_work(SPEC, positions, 1, channels, inputs, 3, 3, depthwise=True, residual=False)
    assert all_of_them.array == channels * one.array


@given(extents, extents, extents, st.integers(1, 5))
def test_groups_of_a_product_follow_each_other(m: int, n: int, k: int, groups: int) -> None:
    one, several = (matmul_work(SPEC, g, m, n, k, bias=False, elements=Elements()) for g in (1, groups))
    assert several.array == groups * one.array


@pytest.mark.skipif(not TABLE.is_file(), reason=f"no reference table at {TABLE}")
def test_every_layer_of_resnet18_compiles_to_the_cycles_of_the_closed_form() -> None:
    found = list(compare(TABLE))
    assert {item.array for item in found} == {"16x16", "32x32"}
    assert len({item.layer for item in found}) == 21
    assert max(abs(item.instruction_error) for item in found) < 1e-9
    assert max(abs(item.compiled_error) for item in found) < 0.05
