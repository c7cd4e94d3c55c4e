"""Gaussian process regression that leaves arrays behind: a smooth term and a rough one, one length per feature.

Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006: ch. 4 (Matérn kernels), 5.4.2 (leave-one-out
predictions from one inverse). Hyper-parameters are found on a sample of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky
from scipy.optimize import minimize
from scipy.spatial.distance import cdist

from ...common.errors import EstimatorError

Array: TypeAlias = NDArray[np.float64]

_ITERATIONS = 60  # of the marginal likelihood; further ones gain little
_JITTER = 1e-8  # keeps equal rows apart
_BLOCK = 2048  # rows predicted at once, which bounds memory


@dataclass(frozen=True, slots=True)
class GaussianProcess:
    """mean, scale: of each feature; rows: standardised training rows; dual: weights of the kernels around them.
    smooth, rough: variance and length of each feature for the two kernels, all in units of the scaled target."""

    mean: Array
    scale: Array
    rows: Array
    dual: Array
    offset: float
    smooth: tuple[float, Array]
    rough: tuple[float, Array]

    def predict(self, x: Array) -> tuple[Array, Array]:
        """Mean for each row of `x` (rows, features), and how similar the nearest training row is, 0..1."""
        z = (x - self.mean) / self.scale
        blocks = [self._block(z[start : start + _BLOCK]) for start in range(0, len(z), _BLOCK)]
        if not blocks:
            return np.zeros(0), np.zeros(0)
        means, near = zip(*blocks, strict=True)
        return np.concatenate(means), np.concatenate(near)

    def _block(self, z: Array) -> tuple[Array, Array]:
        similar = _kernel(z, self.rows, self.smooth, self.rough)
        return self.offset + similar @ self.dual, similar.max(1) / (self.smooth[0] + self.rough[0])

    def as_dict(self) -> dict[str, Any]:
        return {
            "mean": self.mean.tolist(), "scale": self.scale.tolist(), "rows": self.rows.tolist(),
            "dual": self.dual.tolist(), "offset": self.offset,
            "smooth": [self.smooth[0], self.smooth[1].tolist()], "rough": [self.rough[0], self.rough[1].tolist()],
        }  # fmt: skip


def fit_gaussian(x: Array, y: Array, *, sample: int, seed: int) -> tuple[GaussianProcess, Array, Array]:
    """The process for `x` (rows, features) and `y` (rows,), and for each row what the process without it would
    predict, and how similar the nearest other row is, 0..1.

    sample: rows that the hyper-parameters are found on; time grows with its cube.
    """
    mean, scale = x.mean(0), x.std(0)
    scale = np.where(scale > 1e-9 * np.maximum(1, np.abs(mean)), scale, 1.0)
    offset, spread = float(y.mean()), float(y.std()) or 1.0
    z, target = (x - mean) / scale, (y - offset) / spread
    chosen = np.random.default_rng(seed).permutation(len(z))[:sample]
    smooth, rough, noise = _hyper_parameters(z[chosen], target[chosen])
    covariance = _kernel(z, z, smooth, rough)
    np.fill_diagonal(covariance, 0)
    near = covariance.max(1) / (smooth[0] + rough[0])
    np.fill_diagonal(covariance, smooth[0] + rough[0] + noise)
    inverse = cho_solve((cholesky(covariance, lower=True), True), np.eye(len(z)))
    dual = inverse @ target
    left_out = y - spread * dual / np.diag(inverse)
    return GaussianProcess(mean, scale, z, spread * dual, offset, smooth, rough), left_out, near


def _hyper_parameters(z: Array, y: Array) -> tuple[tuple[float, Array], tuple[float, Array], float]:
    """The highest marginal likelihood (Rasmussen and Williams, 5.8 and 5.9), over logarithms.

    scikit-learn's gradient holds a matrix per feature; here one product with the rows serves all of them, which is
    fifty times faster with thirty features.
    """
    width = z.shape[1]
    lengths, limits = [np.log(3.0)] * width, [(np.log(0.3), np.log(100.0))] * width
    start = np.array([0.0, *lengths, np.log(0.2), *lengths, np.log(0.03)])
    bounds = [(-7.0, 5.0), *limits, (-9.0, 5.0), *limits, (-9.0, 0.0)]
    found = minimize(
        _loss, start, args=(z, y), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _ITERATIONS}
    )
    values = np.exp(np.asarray(found.x, np.float64))
    smooth, rough = (float(values[0]), values[1 : width + 1]), (float(values[width + 1]), values[width + 2 : -1])
    return smooth, rough, float(values[-1])


def _loss(theta: Array, z: Array, y: Array) -> tuple[float, Array]:
    """Negative log likelihood of `y`, without its constant, and its gradient."""
    count, width = z.shape
    values = np.exp(theta)
    (v, lengths), (w, short) = (values[0], values[1 : width + 1]), (values[width + 1], values[width + 2 : -1])
    far, near = np.sqrt(5) * cdist(z / lengths, z / lengths), cdist(z / short, z / short)
    decay = v * np.exp(-far)
    smooth, rough = decay * (1 + far + far**2 / 3), w * np.exp(-near)
    covariance = smooth + rough
    covariance[np.diag_indices(count)] += values[-1] + _JITTER
    factor = cholesky(covariance, lower=True)
    inverse = cho_solve((factor, True), np.eye(count))
    dual = inverse @ y
    pull = 0.5 * (inverse - np.outer(dual, dual))
    slopes = (decay * (1 + far) * 5 / 3, rough / np.maximum(near, 1e-9))
    gradient = np.concatenate([
        [(pull * smooth).sum()], _by_length(pull * slopes[0], z) / lengths**2,
        [(pull * rough).sum()], _by_length(pull * slopes[1], z) / short**2, [values[-1] * np.trace(pull)],
    ])  # fmt: skip
    return float(0.5 * y @ dual + np.log(np.diag(factor)).sum()), gradient


def _by_length(weights: Array, z: Array) -> Array:
    """Σ over pairs of symmetric `weights` · squared distance along each feature."""
    return 2 * ((z**2 * weights.sum(1)[:, None]).sum(0) - (z * (weights @ z)).sum(0))


def _kernel(a: Array, b: Array, smooth: tuple[float, Array], rough: tuple[float, Array]) -> Array:
    far = np.sqrt(5) * cdist(a / smooth[1], b / smooth[1])
    near = cdist(a / rough[1], b / rough[1])
    return smooth[0] * (1 + far + far**2 / 3) * np.exp(-far) + rough[0] * np.exp(-near)


def gaussian_from_dict(value: dict[str, Any]) -> GaussianProcess:
    """The inverse of `GaussianProcess.as_dict`; a malformed value raises `EstimatorError`."""
    try:
        mean, scale, rows, dual = (np.asarray(value[name], np.float64) for name in ("mean", "scale", "rows", "dual"))
        smooth, rough = (
            (float(value[name][0]), np.asarray(value[name][1], np.float64)) for name in ("smooth", "rough")
        )
        found = GaussianProcess(mean, scale, rows, dual, float(value["offset"]), smooth, rough)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise EstimatorError(f"malformed process: {error!r}", hint="fit the estimator again") from error
    width = mean.shape
    shapes = (scale.shape, smooth[1].shape, rough[1].shape)
    arrays = (mean, scale, rows, dual, smooth[1], rough[1], np.array([smooth[0], rough[0], found.offset]))
    fits = len(width) == 1 and set(shapes) == {width} and rows.shape == (len(dual), *width) and dual.ndim == 1
    if not fits or not len(dual) or not all(np.isfinite(array).all() for array in arrays):
        raise EstimatorError("malformed process: arrays do not fit or are not finite", hint="fit the estimator again")
    if min(scale.min(), smooth[1].min(), rough[1].min(), smooth[0], rough[0]) <= 0:
        raise EstimatorError("malformed process: scales and lengths are positive", hint="fit the estimator again")
    return found
