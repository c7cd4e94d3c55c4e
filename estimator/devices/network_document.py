"""A `NetworkModel` as JSON: arrays and names, no code. Reading refuses whatever writing would not have written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import sparse

from ...common.errors import EstimatorError, ModelError
from .conformal import intervals_from_dict
from .descriptors import PHYSICS, SIZES
from .graph_arrays import LEVELS
from .graph_table import Array, Matrix, Vocabulary
from .network_model import NetworkModel
from .structure_process import START as STRUCTURE_START
from .structure_process import StructureProcess
from .sum_process import START as SUM_START
from .sum_process import OperatorKernel, SumProcess

_HINT = "fit the estimator again"


def network_model_to_dict(model: NetworkModel) -> dict[str, Any]:
    """The JSON form of a model; `network_model_from_dict` reads it back to the last bit."""
    return {
        "vocabulary": model.vocabulary.as_dict(),
        "sum": _sum_to_dict(model.sum),
        "structure": None if model.structure is None else _structure_to_dict(model.structure),
        "intervals": model.intervals.as_dict(),
        "box": list(model.box),
    }


def network_model_from_dict(value: Mapping[str, Any]) -> NetworkModel:
    """The inverse of `network_model_to_dict`.

    Raises:
        EstimatorError: something is missing, of another shape or not finite.
    """
    try:
        vocabulary = Vocabulary.from_dict(value["vocabulary"])
        structure = value["structure"]
        low, high = (float(end) for end in value["box"])
        model = NetworkModel(
            vocabulary,
            _sum_from_dict(value["sum"], vocabulary),
            None if structure is None else _structure_from_dict(structure, vocabulary),
            intervals_from_dict(value["intervals"]),
            (low, high),
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        if isinstance(error, EstimatorError | ModelError):
            raise
        raise EstimatorError(f"malformed network model: {error!r}", hint=_HINT) from error
    if not (np.isfinite(model.box).all() and 0 < low <= high):
        raise EstimatorError("malformed network model: its box is no range of latencies", hint=_HINT)
    return model


def _sum_to_dict(process: SumProcess) -> dict[str, Any]:
    kernel = process.kernel
    return {
        "times": process.times.tolist(), "pull": process.pull.tolist(), "overhead": process.overhead,
        "theta": kernel.theta.tolist(), "scales": kernel.scales.tolist(), "spread": kernel.spread.tolist(),
    }  # fmt: skip


def _sum_from_dict(value: Mapping[str, Any], vocabulary: Vocabulary) -> SumProcess:
    count = len(vocabulary.operators)
    kernel = OperatorKernel(
        _array(value, "theta", (len(SUM_START),)), _array(value, "scales", (len(PHYSICS),)),
        _array(value, "spread", (len(SIZES),)),
    )  # fmt: skip
    if min(kernel.scales.min(), kernel.spread.min()) <= 0:
        raise EstimatorError("malformed network model: scales are positive", hint=_HINT)
    times, overhead = _array(value, "times", (count,)), float(value["overhead"])
    if not np.isfinite(overhead) or min(times.min(initial=0), overhead) < 0:
        raise EstimatorError("malformed network model: operator times are not negative", hint=_HINT)
    return SumProcess(vocabulary.operators, times, _array(value, "pull", (count,)), overhead, kernel)


def _structure_to_dict(process: StructureProcess) -> dict[str, Any]:
    return {
        "theta": process.theta.tolist(), "scales": process.scales.tolist(), "dual": process.dual.tolist(),
        "rows": [_matrix_to_dict(rows) for rows in process.rows],
    }  # fmt: skip


def _structure_from_dict(value: Mapping[str, Any], vocabulary: Vocabulary) -> StructureProcess:
    dual = np.asarray(value["dual"], np.float64)
    if len(value["rows"]) != LEVELS:
        raise EstimatorError(f"malformed network model: {len(value['rows'])} levels, not {LEVELS}", hint=_HINT)
    rows = tuple(
        _matrix_from_dict(rows, (len(dual), len(columns)))
        for rows, columns in zip(value["rows"], vocabulary.surroundings, strict=True)
    )
    scales = _array(value, "scales", (1 + LEVELS,))
    if scales.min() <= 0:
        raise EstimatorError("malformed network model: scales are positive", hint=_HINT)
    theta = _array(value, "theta", STRUCTURE_START.shape)
    return StructureProcess(theta, scales, rows, _array(value, "dual", (len(dual),)))


def _matrix_to_dict(matrix: Matrix) -> dict[str, list[float] | list[int]]:
    return {
        "starts": matrix.indptr.tolist(), "columns": matrix.indices.tolist(), "values": matrix.data.tolist(),
    }  # fmt: skip


def _matrix_from_dict(value: Mapping[str, Any], shape: tuple[int, int]) -> Matrix:
    starts, columns = (np.asarray(value[name], np.int64) for name in ("starts", "columns"))
    data = np.asarray(value["values"], np.float64)
    whole = len(starts) == shape[0] + 1 and starts[0] == 0 and starts[-1] == len(columns) == len(data)
    if not whole or (np.diff(starts) < 0).any() or not np.isfinite(data).all():
        raise EstimatorError("malformed network model: rows do not fit", hint=_HINT)
    if len(columns) and not (columns.min() >= 0 and columns.max() < shape[1]):
        raise EstimatorError("malformed network model: a column lies outside of the vocabulary", hint=_HINT)
    return sparse.csr_array((data, columns, starts), shape=shape)


def _array(value: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> Array:
    found = np.asarray(value[name], np.float64)
    if found.shape != shape or not np.isfinite(found).all():
        raise EstimatorError(f"malformed network model: {name} is not {shape} finite numbers", hint=_HINT)
    return found
