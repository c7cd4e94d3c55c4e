"""Ranges of the intermediates of cuboid attention, stored with a quantised model.

A QDQ model holds scales of what enters and leaves a layer; its inside stays float. What calibration saw there is kept
as metadata of the model, one entry for each layer, by the name of its Softmax.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, ValueInfoProto

from ..common.errors import ModelError
from ..kernels.cuboid_quantise import GLOBAL_INTERMEDIATES, INTERMEDIATES, Ranges, Span
from .cuboid_pattern import CuboidMatch
from .onnx_model import copy_of

METADATA = "lanefit.attention:"
_MAX_SAMPLES = 32  # attention is evaluated in float64; extremes settle long before


def with_ranges(
    model: ModelProto,
    real: ModelProto,
    matches: Sequence[CuboidMatch],
    feeds: Sequence[Mapping[str, NDArray[np.float32]]],
) -> ModelProto:
    """`model` with what the layers `matches` of the float model `real` show for the first samples of `feeds`."""
    if not matches:
        return model
    wanted = list(dict.fromkeys(name for match in matches for name in match.inputs))
    seen = _values(real, wanted, feeds[:_MAX_SAMPLES])
    for match in matches:
        samples = [sample[match.input][0].astype(np.float64) for sample in seen]
        far = match.global_input
        vectors = [] if far is None else [sample[far][0].astype(np.float64) for sample in seen]
        found = Ranges.of(match.parameters, samples, vectors)
        entry = model.metadata_props.add()
        entry.key = METADATA + match.softmax
        entry.value = json.dumps({"vectors": found.vectors, "spans": dict(found.spans)}, sort_keys=True)
    return model


def stored_ranges(model: ModelProto) -> dict[str, Ranges]:
    """The ranges that a model carries, by the name of the layer's Softmax.

    Raises:
        ModelError: an entry does not hold what `with_ranges` writes.
    """
    entries = [entry for entry in model.metadata_props if entry.key.startswith(METADATA)]
    return {entry.key.removeprefix(METADATA): _parsed(entry.key, entry.value) for entry in entries}


def _values(
    real: ModelProto, wanted: Sequence[str], feeds: Sequence[Mapping[str, NDArray[np.float32]]]
) -> list[dict[str, NDArray]]:
    """The tensors `wanted` for each sample."""
    from .split_run import session

    model = copy_of(real)
    own = {value.name for value in (*model.graph.output, *model.graph.input)}
    model.graph.output.extend(ValueInfoProto(name=name) for name in wanted if name not in own)
    runner = session(model)
    given = set(wanted) - {value.name for value in model.graph.input}
    names = [name for name in wanted if name in given]
    found: list[dict[str, NDArray]] = []
    for feed in feeds:
        values = runner.run(names, dict(feed)) if names else []
        found.append({**feed, **{name: np.asarray(v) for name, v in zip(names, values, strict=True)}})
    return found


def _parsed(key: str, text: str) -> Ranges:
    try:
        value = json.loads(text)
        vectors, spans = value["vectors"], value["spans"]
        names = (*INTERMEDIATES, *(GLOBAL_INTERMEDIATES if vectors else ()))
        checked = {name: _span(spans[name]) for name in names}
    except (ValueError, KeyError, TypeError) as error:
        hint = "quantise the float model again"
        raise ModelError(f"the stored ranges of cuboid attention are damaged: {error}", where=key, hint=hint) from error
    if not isinstance(vectors, int) or vectors < 0:
        raise ModelError(f"{vectors!r} global vectors", where=key)
    return Ranges(checked, vectors)


def _span(value: Sequence[float]) -> Span:
    low, high = (float(bound) for bound in value)
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"{value} is no range")
    return low, high
