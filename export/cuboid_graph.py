"""Operator graphs of single cuboid-attention layers."""

from __future__ import annotations

import numpy as np

from ..kernels.cuboid_op import CuboidAttention
from ..kernels.cuboid_parameters import CuboidParameters
from ..kernels.cuboid_quantise import Quantised, quantise
from .graph import Graph, Node, Quantisation, Tensor

INPUT, OUTPUT, NODE = "x", "y", "attention"


def attention_op(p: CuboidParameters) -> CuboidAttention:
    """The shape-level operator of a layer. The cuboid is the clamped one: it decides what is computed."""
    t, h, w = p.cuboids.axes
    return CuboidAttention(
        size=p.cuboids.shape,
        channels=p.channels,
        heads=p.heads,
        cuboid=p.cuboids.cuboid,
        shift=(t.shift, h.shift, w.shift),
        strategy=(t.strategy, h.strategy, w.strategy),
        padding=p.cuboids.padding,
        biased=p.bias is not None,
        projected=p.out is not None,
    )


def cuboid_graph(p: CuboidParameters, quantised: Quantised | None = None) -> Graph:
    """The layer alone, from (T, H, W, C) to (T, H, W, C); without `quantised`, scales are those of normal noise."""
    if quantised is None:
        quantised = quantise(p, [np.random.default_rng(0).standard_normal((*p.cuboids.shape, p.channels))])
    op = attention_op(p)
    host = (*op.size, op.channels)
    scales = {
        INPUT: Quantisation(quantised.input_scale, quantised.layer.input_zero),
        OUTPUT: Quantisation(quantised.output_scale, quantised.output_zero),
    }
    tensors = {name: Tensor(name, op.input, scale, host, channels_last=True) for name, scale in scales.items()}
    node = Node(NODE, op, (INPUT,), OUTPUT)
    return Graph((node,), tensors, (INPUT,), (OUTPUT,), {NODE: quantised.layer})
