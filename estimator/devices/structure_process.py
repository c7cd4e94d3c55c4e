"""What a sum of operators misses, as a Gaussian process over the operators' surroundings.

log(measured / sum) is zero-mean Gaussian with a linear kernel on the counts of operators and one squared exponential
for each level of surroundings (Weisfeiler-Lehman kernels; Ru et al., "Interpretable neural architecture search via
Bayesian optimisation with Weisfeiler-Lehman kernels", ICLR 2021): parallel branches, launches hidden behind others,
runtimes that fuse what follows each other. Far from everything measured it returns to the sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .graph_arrays import LEVELS
from .graph_table import Array, GraphTable, Matrix
from .likelihood import ascend, solve

_ITERATIONS = 40
_OFFSET = 1.0  # variance of a common factor
_BLOCK = 2048  # networks predicted at once, which bounds memory
START = np.concatenate([[-4.0], np.tile([-3.0, 0.0], LEVELS), [-5.0]])
"""Logs of: linear variance; variance and squared length of each level; noise."""


@dataclass(frozen=True, slots=True)
class StructureProcess:
    """theta: log hyper-parameters in the order of `START`. scales: (1 + LEVELS,) mean squared norm of the counts and
    median squared distance of each level. rows: by level (networks, columns). dual: (networks,)."""

    theta: Array
    scales: Array
    rows: tuple[Matrix, ...]
    dual: Array

    def predict(self, table: GraphTable) -> tuple[Array, Array]:
        """Log factor of each network of `table`, and how alike the nearest training network is (0..1)."""
        blocks = [self._block(table, start) for start in range(0, len(table), _BLOCK)]
        if not blocks:
            return np.zeros(0), np.zeros(0)
        factors, alike = zip(*blocks, strict=True)
        return np.concatenate(factors), np.concatenate(alike)

    def _block(self, table: GraphTable, start: int) -> tuple[Array, Array]:
        part = slice(start, start + _BLOCK)
        rows = tuple(level[part] for level in table.surroundings)
        strange = tuple(level[part] for level in table.strange)
        linear, smooth = _kernels(self.theta, self.scales, rows, self.rows, strange)
        covariance = _OFFSET + linear + sum(smooth)
        most = float(np.exp(self.theta[1:-1:2]).sum())
        return covariance @ self.dual, np.asarray(np.sum(smooth, axis=0).max(1) / most)


@dataclass(frozen=True, slots=True)
class StructureFit:
    """A process with its log factors for the training networks: as fitted, left out, and the variance of the latter."""

    process: StructureProcess
    fitted: Array
    left_out: Array
    left_out_variance: Array


def fit_structure(
    table: GraphTable,
    log_ratio: Array,
    *,
    doubt: Array,
    theta: Array | None = None,
    sample: NDArray[np.int64] | None = None,
    first: Array | None = None,
    iterations: int = _ITERATIONS,
) -> StructureFit:
    """Fits to the log ratios (networks,) of measurement and sum; arguments as those of `sum_process.fit_sum`."""
    rows = table.surroundings
    products = [_dense(level @ level.T) for level in rows]
    distances = [_squared(product) for product in products]
    scales = np.array([_positive(np.diag(products[0]).mean()), *(_positive(np.median(d)) for d in distances)])
    parts = [products[0] / scales[0], *(d / scale for d, scale in zip(distances, scales[1:], strict=True))]
    if theta is None:
        chosen = np.arange(len(table)) if sample is None else sample
        some = [part[np.ix_(chosen, chosen)] for part in parts]
        theta = _most_likely(some, log_ratio[chosen], doubt[chosen], first, iterations)
    linear, smooth = _at(theta, parts)
    matrix = _OFFSET + linear + sum(smooth)
    solved = solve(matrix + np.diag(np.exp(theta[-1]) * doubt), log_ratio)
    process = StructureProcess(theta, scales, rows, solved.dual)
    return StructureFit(process, matrix @ solved.dual, solved.left_out, solved.left_out_variance)


def _most_likely(
    parts: list[Array], log_ratio: Array, doubt: Array, first: Array | None, iterations: int
) -> Array:  # fmt: skip
    start = START.copy()
    start[[0, *range(1, len(start) - 1, 2), -1]] += np.log(float(np.var(log_ratio)) or 1e-6) + 4
    covariance = _covariance(parts[0], parts[1:], doubt)
    return ascend(covariance, log_ratio, start, iterations=iterations, first=first)


def _covariance(
    product: Array, distances: list[Array], doubt: Array
) -> Callable[[Array], tuple[Array, Callable[[Array], Array]]]:  # fmt: skip
    def evaluate(theta: Array) -> tuple[Array, Callable[[Array], Array]]:
        weights = np.exp(theta)
        linear, smooth = _at(theta, [product, *distances])
        matrix = _OFFSET + linear + sum(smooth) + np.diag(weights[-1] * doubt)

        def pull_back(outer: Array) -> Array:
            found = [np.vdot(outer, linear)]
            for i, (part, distance) in enumerate(zip(smooth, distances, strict=True)):
                found += [np.vdot(outer, part), np.vdot(outer, part * distance) * 0.5 / weights[2 + 2 * i]]
            return np.array([*found, weights[-1] * np.diag(outer) @ doubt], np.float64)

        return matrix, pull_back

    return evaluate


def _at(theta: Array, parts: Sequence[Array]) -> tuple[Array, list[Array]]:
    """The linear kernel and the smooth ones from the scaled product and squared distances."""
    weights = np.exp(theta)
    smooth = [weights[1 + 2 * i] * np.exp(-0.5 * part / weights[2 + 2 * i]) for i, part in enumerate(parts[1:])]
    return np.asarray(weights[0] * parts[0], np.float64), smooth


def _kernels(
    theta: Array, scales: Array, left: tuple[Matrix, ...], right: tuple[Matrix, ...], strange: tuple[Array, ...]
) -> tuple[Array, list[Array]]:
    """The linear kernel of the counts, and the smooth one of each level (left, right)."""
    parts = list[Array]()
    for level, (a, b, beyond) in enumerate(zip(left, right, strange, strict=True)):
        product = _dense(a @ b.T)
        if level == 0:
            parts.append(product / scales[0])
        norms = _norms(a)[:, None] + beyond[:, None] + _norms(b)[None, :]
        parts.append(np.maximum(norms - 2 * product, 0) / scales[1 + level])
    return _at(theta, parts)


def _dense(product: Any) -> Array:
    return np.asarray(product.toarray() if sparse.issparse(product) else product, np.float64)


def _norms(rows: Matrix) -> Array:
    return np.asarray(rows.multiply(rows).sum(axis=1), np.float64).ravel()


def _squared(product: Array) -> Array:
    norms = np.diag(product)
    return np.maximum(norms[:, None] + norms[None, :] - 2 * product, 0)


def _positive(value: float) -> float:
    return value if value > 0 else 1.0
