"""Weight records without their zeros, for engines with a weight decoder.

Each weight tile of a convolution becomes a mask and the bytes that are not zero (LOAD_SPARSE), every tile in as many
bytes as the longest of them takes, so that one loop loads them all. Where that saves nothing, and for weights that
are zero throughout (placeholders, see blank.py), records stay as they are. Time is planned for plain records.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..kernels.kernel import record_pitch, weight_bytes
from ..kernels.ops import Conv2d
from ..targets.execute_dma import pack
from .graph import ConvConstants, Graph
from .planned import Plan, PlannedStep
from .records import record_bytes


@dataclass(frozen=True, slots=True)
class Packed:
    """The tiles of one convolution, one after the other, each of `tile_bytes`."""

    data: bytes
    tile_bytes: int


def packed_weights(graph: Graph, plan: Plan) -> dict[str, Packed]:
    """By node name, for the convolutions that become smaller."""
    found: dict[str, Packed] = {}
    for step in plan.steps:
        for node in step.group.nodes:
            constants = graph.constants.get(node.name)
            if not (isinstance(node.op, Conv2d) and isinstance(constants, ConvConstants)):
                continue
            if not np.any(constants.weights):
                continue
            packed = _packed(np.frombuffer(record_bytes(graph, node), np.uint8), _tile_bytes(step, node.op))
            if len(packed.data) < weight_bytes(node.op):
                found[node.name] = packed
    return found


def _tile_bytes(step: PlannedStep, conv: Conv2d) -> int:
    """A chain loads the weights of each of its convolutions at once."""
    channels = step.choice.tiling.channels if len(step.subgraph.ops) == 1 else conv.output[2]
    return channels * record_pitch(conv)


def _packed(records: NDArray[np.uint8], tile_bytes: int) -> Packed:
    tiles = -(-len(records) // tile_bytes)
    whole = np.zeros((tiles, tile_bytes), np.uint8)
    whole.reshape(-1)[: len(records)] = records
    parts = [pack(tile) for tile in whole]
    longest = max(map(len, parts))
    table = np.zeros((tiles, longest), np.uint8)
    for row, part in zip(table, parts, strict=True):
        row[: len(part)] = part
    return Packed(table.tobytes(), longest)
