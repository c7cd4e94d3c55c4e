"""The recurrence for resident convolutions against the timing model."""

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanefit.export.lower import compile_subgraph
from lanefit.kernels.kernel import Tiling
from lanefit.kernels.ops import Conv2d, Window
from lanefit.kernels.pipeline import is_resident_conv, resident_conv
from lanefit.kernels.search import candidates
from lanefit.kernels.subgraph import Memory, Subgraph
from lanefit.targets.isa import Unit
from lanefit.targets.spec import load_spec
from lanefit.targets.timing import simulate


@st.composite
def resident_convs(draw: st.DrawFn) -> Subgraph:
    height, width = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    channels, count = draw(st.integers(1, 96)), draw(st.integers(1, 200))
    kernel, stride = draw(st.sampled_from([1, 3, 5])), draw(st.sampled_from([1, 2]))
    depthwise = draw(st.booleans())
    size = (-(-height // stride), -(-width // stride), channels if depthwise else count)
    window = Window(kernel, kernel, stride, stride, kernel // 2, kernel // 2)
    second = draw(st.sampled_from([None, Memory.SRAM]))
    return Subgraph((Conv2d((height, width, channels), size, window, depthwise),), Memory.SRAM, Memory.SRAM, second)


@given(subgraph=resident_convs(), target=st.sampled_from(["ne-64", "ne-256", "ne-1024"]))
def test_recurrence_equals_the_timing_model_on_every_tiling(subgraph: Subgraph, target: str) -> None:
    spec = load_spec(target)
    for choice in candidates(subgraph, spec)[:4]:
        assert is_resident_conv(subgraph, choice.tiling)
        timing = simulate(compile_subgraph(subgraph, spec, choice))
        span = resident_conv(subgraph, choice.tiling, spec)
        load, array = timing.units[Unit.DMA_IN], timing.units[Unit.ARRAY]
        assert span.ended == pytest.approx(array.busy + array.stall)
        assert span.loaded == pytest.approx(load.busy + load.stall)
        assert ceil(max(span.ended, span.loaded)) == timing.cycles


@given(subgraph=resident_convs())
def test_weights_that_lie_ready_never_make_a_step_longer(subgraph: Subgraph) -> None:
    spec = load_spec("ne-256")
    for choice in candidates(subgraph, spec)[:4]:
        alone = resident_conv(subgraph, choice.tiling, spec)
        assert resident_conv(subgraph, choice.tiling, spec, ahead=True).ended <= alone.ended


@pytest.mark.parametrize("place", ["input", "output", "second"])
def test_recurrence_leaves_streamed_maps_to_the_timing_model(place: str) -> None:
    memories = {"input": Memory.SRAM, "output": Memory.SRAM, "second": Memory.SRAM, place: Memory.DRAM}
    conv = Conv2d((8, 8, 16), (8, 8, 16), Window(1, 1))
    subgraph = Subgraph((conv,), memories["input"], memories["output"], memories["second"])
    assert not is_resident_conv(subgraph, Tiling(8, 16))


def test_recurrence_leaves_stripes_of_rows_to_the_timing_model() -> None:
    conv = Conv2d((8, 8, 16), (8, 8, 16), Window(1, 1))
    assert not is_resident_conv(Subgraph((conv,), Memory.SRAM, Memory.SRAM), Tiling(4, 16))
