"""Random operators and small graphs for the tests of operator graphs."""

from __future__ import annotations

from hypothesis import strategies as st

from lanefit.estimator.opgraph.graph import OperatorGraph, OperatorNode
from lanefit.estimator.opgraph.operator import Kind, Operator, Window, convolution_kind

MAP = (1, 8, 16, 16)


@st.composite
def convolutions(draw: st.DrawFn) -> Operator:
    per_group, groups = draw(st.integers(1, 8)), draw(st.integers(1, 4))
    kernel, stride, size = draw(st.integers(1, 5)), draw(st.integers(1, 2)), draw(st.integers(5, 20))
    channels_in, channels_out = per_group * groups, groups * draw(st.integers(1, 8))
    out = (size + 2 * (kernel // 2) - kernel) // stride + 1
    fused = draw(st.sampled_from([(), ("relu",), ("clip",)]))
    return Operator(
        convolution_kind(groups, channels_in),
        ((1, channels_in, size, size),),
        (1, channels_out, out, out),
        Window.square(kernel, stride, kernel // 2, groups=groups),
        ((channels_out, per_group, kernel, kernel), (channels_out,)),
        draw(st.sampled_from(["float32", "int8"])),
        fused,
    )


def relu(shape: tuple[int, ...] = MAP) -> Operator:
    return Operator(Kind.RELU, (shape,), shape)


def add(shape: tuple[int, ...] = MAP) -> Operator:
    return Operator(Kind.ADD, (shape, shape), shape)


def zero(shape: tuple[int, ...] = MAP) -> Operator:
    return Operator(Kind.ZERO, (shape,), shape)


def conv(channels: int = 8, kernel: int = 3) -> Operator:
    shape = (1, channels, 16, 16)
    return Operator(
        Kind.CONV, (MAP,), shape, Window.square(kernel, 1, kernel // 2), ((channels, 8, kernel, kernel), (channels,))
    )


def graph(*nodes: tuple[str, Operator, tuple[str, ...]], outputs: tuple[str, ...] = ()) -> OperatorGraph:
    """A graph over one source `x` of shape `MAP`; its last node is the output unless others are named."""
    return OperatorGraph.of([OperatorNode(*node) for node in nodes], {"x": MAP}, outputs or (nodes[-1][0],))
