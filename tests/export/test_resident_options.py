"""The short way to the options of resident convolutions gives what the general way gives."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanefit.common.errors import UnsupportedError
from lanefit.export.resident_options import BareOption, ResidentTilings, is_resident
from lanefit.export.tiling import options, workspaces
from lanefit.kernels.ops import Add, Conv2d, Window
from lanefit.kernels.subgraph import Memory, Subgraph
from lanefit.targets.spec import load_spec

SPECS = {name: load_spec(name) for name in ("ne-256", "ne-1024", "ethos-u55-128", "gemmini-16x16")}


@st.composite
def convolutions(draw: st.DrawFn) -> Subgraph:
    kernel, stride = draw(st.sampled_from((1, 3, 5, 7))), draw(st.sampled_from((1, 2)))
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    depthwise, channels = draw(st.booleans()), draw(st.integers(1, 400))
    target = channels if depthwise else draw(st.integers(1, 400))
    window = Window(kernel, kernel, stride, stride, kernel // 2, kernel // 2)
    rows, cols = ((size - 1) // stride + 1 for size in (height, width))
    dtype = draw(st.sampled_from(("int8", "int8", "int16", "bf16")))
    conv = Conv2d((height, width, channels), (rows, cols, target), window, depthwise, dtype)
    return Subgraph((conv,), Memory.SRAM, Memory.SRAM, draw(st.sampled_from((None, Memory.SRAM))))


@pytest.mark.parametrize("name", SPECS)
@settings(max_examples=40, deadline=None)
@given(subgraph=convolutions(), share=st.floats(0, 1))
def test_both_ways_give_the_same_options_in_any_room(name: str, subgraph: Subgraph, share: float) -> None:
    spec, tilings = SPECS[name], ResidentTilings(subgraph, SPECS[name])
    try:
        limits = workspaces(subgraph, spec)
    except UnsupportedError:
        assert tilings.workspaces == ()
        return
    assert tilings.workspaces == limits
    room = limits[0] - 1 + share * (limits[-1] - limits[0] + 1)
    expected = [
        BareOption(o.alone, o.least, o.loading, o.choice.workspace_bytes) for o in options(subgraph, spec, room)
    ]
    assert list(tilings.options(room)) == expected


def test_only_lone_convolutions_between_resident_maps_take_the_short_way() -> None:
    conv = Conv2d((8, 8, 8), (8, 8, 8), Window(1, 1))
    assert is_resident(Subgraph((conv,), Memory.SRAM, Memory.SRAM))
    assert not is_resident(Subgraph((conv,), Memory.HOST, Memory.SRAM))
    assert not is_resident(Subgraph((conv,), Memory.SRAM, Memory.DRAM))
    assert not is_resident(Subgraph((conv,), Memory.SRAM, Memory.SRAM, Memory.DRAM))
    assert not is_resident(Subgraph((conv, conv), Memory.SRAM, Memory.SRAM))
    assert not is_resident(Subgraph((Add((8, 8, 8)),), Memory.SRAM, Memory.SRAM, Memory.SRAM))
