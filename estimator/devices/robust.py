"""Measurements that the others contradict: how much less they count.

Errors follow a Student distribution whose degrees of freedom are found with its scale; each error's weight is that of
the expectation-maximisation algorithm for it (Lange, Little and Taylor, JASA 84, 1989, eq. 2.3 and section 3). Where
measurements are clean the freedom is large and all count alike; on a device with one slow mode in three runs it is
near one and the fit follows the fast mode.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

Array: TypeAlias = NDArray[np.float64]

_FREEDOMS = (1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
_ROUNDS = 30
_LEAST_SCALE = 1e-4


def student_doubt(error: Array) -> Array:
    """Noise variance of each error (rows,) relative to that of the most likely error, at least 1.

    The distribution may lie beside zero: a fit between two modes is pulled to the sharper one.
    """
    starts = (float(np.median(error)), _half_sample_mode(error))
    freedom = np.repeat(_FREEDOMS, len(starts))[:, None]
    place, scale = _most_likely(error, freedom, np.tile(starts, len(_FREEDOMS))[:, None])
    best = int(np.argmax(student.logpdf(error, freedom, place, scale).sum(1)))
    return 1 + ((error - place[best]) / scale[best]) ** 2 / freedom[best]


def _most_likely(error: Array, freedom: Array, place: Array) -> tuple[Array, Array]:
    """Places and scales (fits, 1) of Student distributions of `freedom`, each searched from its `place`."""
    square = np.quantile((error - place) ** 2, 0.3, axis=1, keepdims=True) + _LEAST_SCALE**2
    for _ in range(_ROUNDS):
        weights = (freedom + 1) / (freedom + (error - place) ** 2 / square)
        place = (weights @ error)[:, None] / weights.sum(1, keepdims=True)
        square = np.mean(weights * (error - place) ** 2, axis=1, keepdims=True) + _LEAST_SCALE**2
    return place, np.sqrt(square)


def _half_sample_mode(values: Array) -> float:
    """Where values are densest (Bickel and Frühwirth, Comput. Stat. Data Anal. 50, 2006)."""
    rest = np.sort(values)
    while len(rest) > 2:
        half = (len(rest) + 1) // 2
        widths = rest[half - 1 :] - rest[: len(rest) - half + 1]
        first = int(np.argmin(widths))
        rest = rest[first : first + half]
        if len(rest) == half and widths[first] == 0:
            break
    return float(rest.mean())
