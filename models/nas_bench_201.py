"""Family `nas-bench-201`: one cell of four nodes and six edges, repeated fifteen times in three stages.

Dong and Yang, "NAS-Bench-201", ICLR 2020 (arXiv:2001.00326), figure 1 and section 2: every edge is one of none,
skip, 1×1 and 3×3 convolution (each ReLU, convolution, batch normalisation) and 3×3 average pooling; a node is the
sum of its edges. Stem 3×3 to 16 channels, stages of five cells at 16, 32 and 64 channels, a residual block with
stride 2 before the second and third, at the end batch normalisation, ReLU, global pooling and a linear layer.
Input 32×32.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from .architecture import Architecture, Knob, KnobValue
from .cell_string import (
    CONV_1,
    CONV_3,
    EDGES,
    NODES,
    NONE,
    OPERATIONS,
    POOL,
    SKIP,
    format_cell,
    is_connected,
    parse_cell,
)
from .family import Family, missing_knob, unknown_knob
from .layers import LayerBlock, LayerBuilder, LayerSpec, MapShape
from .rules import OneOf, enforce

FAMILY_NAME = "nas-bench-201"
RESOLUTION = 32
STAGE_CHANNELS = (16, 32, 64)
CELLS_PER_STAGE = 5

_RULE = OneOf(OPERATIONS)
_EDGE_OF = {f"node{target}_from{source}": (target, source) for target, source in EDGES}


class NasBench201(Family):
    name = FAMILY_NAME
    summary = "image classifier of one repeated cell, for which published measurements of many devices exist"

    def knobs(self) -> tuple[Knob, ...]:
        return tuple(
            Knob(name, OPERATIONS, "block", f"what node {target} of the cell takes from node {source}")
            for name, (target, source) in _EDGE_OF.items()
        )

    def is_active(self, name: str, values: Mapping[str, KnobValue]) -> bool:
        return True

    def active_knobs(self, architecture: Architecture) -> tuple[str, ...]:
        return tuple(_EDGE_OF)

    def check(self, architecture: Architecture) -> None:
        values = self.own(architecture)
        for name in values:
            if name not in _EDGE_OF:
                raise unknown_knob(name, tuple(_EDGE_OF))
        for name in _EDGE_OF:
            if name not in values:
                raise missing_knob(name, str(_RULE))
            enforce(name, values[name], _RULE)

    def input_shape(self, architecture: Architecture, channels: int) -> MapShape:
        self.check(architecture)
        return channels, RESOLUTION, RESOLUTION

    def layers(self, architecture: Architecture, *, input_channels: int, classes: int) -> tuple[LayerSpec, ...]:
        blocks = self.blocks(architecture, input_channels=input_channels, classes=classes)
        return tuple(layer for block in blocks for layer in block.layers)

    def blocks(self, architecture: Architecture, *, input_channels: int, classes: int) -> tuple[LayerBlock, ...]:
        """One block for every node of every cell, and one for stem, reductions and head each."""
        self.check(architecture)
        edges = cell_edges(architecture)
        found = [_stem(input_channels)]
        for stage, channels in enumerate(STAGE_CHANNELS, start=1):
            if stage > 1:
                found.append(_reduction(f"stage{stage}_reduction", found[-1].last, found[-1].shape, channels))
            for cell in range(1, CELLS_PER_STAGE + 1):
                found += _cell(f"stage{stage}_cell{cell}", found[-1], edges)
        return (*found, _head(found[-1].last, found[-1].shape, classes))

    def sample(self, generator: np.random.Generator) -> Architecture:
        """Every edge uniform over its operations, among cells whose input reaches their output."""
        while not connected(drawn := super().sample(generator)):
            pass
        return drawn


def cell_edges(architecture: Architecture) -> dict[tuple[int, int], str]:
    """The operation of every edge (node, node that it reads) of a checked architecture."""
    values = architecture.values
    return {edge: str(values[name]) for name, edge in _EDGE_OF.items()}


def connected(architecture: Architecture) -> bool:
    """False for the 341 cells that hand nothing of their input on."""
    return is_connected(cell_edges(architecture))


def parse_architecture(text: str) -> Architecture:
    """The architecture of a table's `arch_str`; a malformed one is a `ConfigError` with the position."""
    edges = parse_cell(text)
    return Architecture.of(FAMILY_NAME, {name: edges[edge] for name, edge in _EDGE_OF.items()})


def format_architecture(architecture: Architecture) -> str:
    """The `arch_str` of an architecture."""
    NAS_BENCH_201.check(architecture)
    return format_cell(cell_edges(architecture))


def _cell(name: str, before: LayerBlock, edges: Mapping[tuple[int, int], str]) -> list[LayerBlock]:
    blocks, nodes = [], (before.last,)
    for target in range(1, NODES):
        operations = tuple(edges[target, source] for source in range(target))
        blocks.append(_node(name, nodes, before.shape, operations))
        nodes = (*nodes, blocks[-1].last)
    return blocks


@lru_cache(maxsize=16384)
def _node(cell: str, sources: tuple[str, ...], shape: MapShape, operations: tuple[str, ...]) -> LayerBlock:
    """The edges into the next node after `sources`, and their sum."""
    net, target = LayerBuilder(shape, sources), len(sources)
    terms = [
        _add_edge(net, f"{cell}_edge{target}{number}", source, operation)
        for number, (source, operation) in enumerate(zip(sources, operations, strict=True))
    ]
    net.sum(f"{cell}_node{target}", tuple(terms))
    return net.block()


def _add_edge(net: LayerBuilder, name: str, source: str, operation: str) -> str:
    """Appends `operation` on `source` and returns the name of its result."""
    net.rewind(source)
    if operation == NONE:
        net.zero(name)
    elif operation in (CONV_1, CONV_3):
        net.activation(f"{name}_relu", "relu")
        net.conv(name, net.shape[0], kernel=3 if operation == CONV_3 else 1)
    elif operation == POOL:
        net.average_pool(name, kernel=3, padding=1)
    return source if operation == SKIP else name


@lru_cache
def _stem(input_channels: int) -> LayerBlock:
    net = LayerBuilder((input_channels, RESOLUTION, RESOLUTION))
    net.conv("stem", STAGE_CHANNELS[0], kernel=3)
    return net.block()


@lru_cache
def _reduction(name: str, source: str, shape: MapShape, channels: int) -> LayerBlock:
    """Half the extent at `channels`: two pre-activated 3×3 convolutions beside pooling and a bare 1×1 convolution."""
    net = LayerBuilder(shape, (source,))
    for part, stride in (("a", 2), ("b", 1)):
        net.activation(f"{name}_{part}_relu", "relu")
        net.conv(f"{name}_{part}", channels, kernel=3, stride=stride)
    net.rewind(source)
    net.average_pool(f"{name}_pool", kernel=2, stride=2)
    net.conv(f"{name}_shortcut", channels, affine="none")
    net.add(f"{name}_sum", f"{name}_b")
    return net.block()


@lru_cache
def _head(source: str, shape: MapShape, classes: int) -> LayerBlock:
    net = LayerBuilder(shape, (source,))
    net.batch_norm("last", activation="relu")
    net.classifier(classes)
    return net.block()


NAS_BENCH_201 = NasBench201()
