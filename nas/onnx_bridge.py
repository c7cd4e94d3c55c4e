"""`to_timing_model`: the layers of a family as a float ONNX model with random weights, in milliseconds.

What a network costs does not depend on its weights. Building the torch module and exporting it gives the same
operators (a test holds the two equal) but takes seconds for each network, too long to measure hundreds of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from onnx import ModelProto

from ..estimator.opgraph.onnx_writer import to_model
from .operator_bridge import to_operator_graph

if TYPE_CHECKING:
    from ..models.layers import LayerSpec


def to_timing_model(layers: Sequence[LayerSpec], *, seed: int = 0) -> ModelProto:
    """A model of input "input" (1, C, H, W); normalisation is folded into convolutions.

    Raises:
        UnsupportedError: no layers, or a kind of layer without an ONNX form.
    """
    return to_model(to_operator_graph(layers), seed=seed)
