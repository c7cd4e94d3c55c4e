"""Latency as a sum of operator times, each a Gaussian process over what physics knows of the operator.

The time of operator o is t(o) = Σ_f (shared weight + weight of its kind) · physics_f(o) + scale(o) · (smooth function
of its sizes + a number of its own), with zero-mean Gaussian priors on everything. Networks are sums of operators, so
their latencies are jointly Gaussian too and t is found from whole networks alone, in closed form: the rows are divided
by their latency, which makes it a relative least squares fit with the prior as its ridge. Operators that few networks
have borrow from their likes; with thousands of networks the result is the additive table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from ...common.errors import EstimatorError
from ..opgraph.operator import Operator
from .descriptors import PHYSICS, SIZES, Descriptors, describe
from .likelihood import ascend, solve

Array: TypeAlias = NDArray[np.float64]

_ITERATIONS = 60
START = np.concatenate([
    np.full(2 * len(PHYSICS), -3.0), [-4.0], np.full(len(SIZES), -2.0), [-6.0, -4.0, -6.0],
])  # fmt: skip
"""Logs of: weights shared and by kind, smooth variance, inverse squared lengths, own variance, overhead, noise."""


@dataclass(frozen=True, slots=True)
class OperatorKernel:
    """The prior covariance of operator times.

    theta: log hyper-parameters in the order of `START`.
    scales: (len(PHYSICS),) what the average network has of each amount.
    spread: (len(SIZES),) standard deviations of the sizes.
    """

    theta: Array
    scales: Array
    spread: Array

    def __call__(self, left: Descriptors, right: Descriptors) -> Array:
        """Covariances (left, right); the operators' own numbers are left to the caller."""
        weights = np.exp(self.theta)
        return np.asarray(
            sum(weight * part for weight, part in zip(weights, _linear(self, left, right), strict=False))
            + weights[2 * len(PHYSICS)] * _smooth(self, left, right),
            np.float64,
        )

    @property
    def own(self) -> float:
        return float(np.exp(self.theta[-3]))

    @property
    def overhead(self) -> float:
        return float(np.exp(self.theta[-2]))

    @property
    def noise(self) -> float:
        return float(np.exp(self.theta[-1]))

    def share(self, described: Descriptors) -> Array:
        """The part of the average network that an operator is, as far as physics knows (operators,)."""
        return (described.physics / self.scales).mean(1)


def _linear(kernel: OperatorKernel, left: Descriptors, right: Descriptors) -> list[Array]:
    """Covariances of the linear terms at weight one, shared and by kind in turn."""
    a, b, same = left.physics / kernel.scales, right.physics / kernel.scales, _same_kind(left, right)
    products = [np.outer(a[:, f], b[:, f]) for f in range(len(PHYSICS))]
    return [part for product in products for part in (product, product * same)]


def _smooth(kernel: OperatorKernel, left: Descriptors, right: Descriptors) -> Array:
    """Covariance of the smooth term at weight one."""
    lengths = np.exp(kernel.theta[2 * len(PHYSICS) + 1 :][: len(SIZES)])
    x, y = left.sizes / kernel.spread * np.sqrt(lengths), right.sizes / kernel.spread * np.sqrt(lengths)
    squared = (x**2).sum(1)[:, None] + (y**2).sum(1)[None, :] - 2 * x @ y.T
    share = np.outer(kernel.share(left), kernel.share(right))
    return np.exp(-0.5 * np.maximum(squared, 0)) * share * _same_kind(left, right)


def _same_kind(left: Descriptors, right: Descriptors) -> Array:
    return (np.array(left.kinds)[:, None] == np.array(right.kinds)[None, :]).astype(np.float64)


@dataclass(frozen=True, slots=True)
class SumProcess:
    """A fitted sum.

    operators, times: what each operator of the training networks takes, in the unit of the latencies.
    pull: (operators,) what other operators' times are drawn from: time(o) = kernel(o, operators) · pull.
    overhead: what every network takes beside its operators.
    """

    operators: tuple[Operator, ...]
    times: Array
    pull: Array
    overhead: float
    kernel: OperatorKernel

    def operator_times(self, operators: Sequence[Operator]) -> Array:
        """Time of each operator, never negative; of unknown ones by their likeness to known ones."""
        known = dict(zip(self.operators, self.times, strict=True))
        strange = [operator for operator in operators if operator not in known]
        if strange:
            drawn = self.kernel(describe(strange), describe(self.operators)) @ self.pull
            known.update(zip(strange, np.maximum(drawn, 0), strict=True))
        return np.array([known[operator] for operator in operators], np.float64)

    def predict(self, operators: Sequence[Operator], counts: Any) -> Array:
        """Latencies of networks with `counts` (networks, operators)."""
        return self.overhead + np.asarray(counts @ self.operator_times(operators), np.float64)


@dataclass(frozen=True, slots=True)
class SumFit:
    """A process with what it says of each training network: as fitted, and as if it had been left out."""

    process: SumProcess
    fitted: Array
    left_out: Array


def fit_sum(
    operators: Sequence[Operator],
    counts: Array,
    latency: Array,
    *,
    scale: Array,
    doubt: Array,
    kernel: OperatorKernel | None = None,
    sample: NDArray[np.int64] | None = None,
    first: Array | None = None,
    iterations: int = _ITERATIONS,
) -> SumFit:
    """Fits to `counts` (networks, operators) and `latency` (networks,).

    scale: (networks,) what an error of each network is relative to: a guess of its latency.
    doubt: (networks,) variance of each network's noise relative to the others'.
    kernel: hyper-parameters to keep; found on the networks `sample` (all by default) when absent.
    first, iterations: where their search begins (their logs; `START` when absent) and its rounds.
    """
    described, mean = describe(operators), float(np.exp(np.log(latency).mean()))
    rows, target, base = counts / scale[:, None] * mean, latency / scale, mean / scale
    chosen = np.arange(len(latency)) if sample is None else sample
    if kernel is None:
        parts = (rows[chosen], target[chosen], base[chosen], doubt[chosen])
        kernel = _fit_kernel(described, counts.mean(0), *parts, first, iterations)
    prior = kernel(described, described) + np.diag(kernel.own * kernel.share(described) ** 2)
    covariance = rows @ prior @ rows.T + kernel.overhead * np.outer(base, base) + np.diag(kernel.noise * doubt)
    solved = solve(covariance, target)
    pull = rows.T @ solved.dual
    times, overhead = prior @ pull, kernel.overhead * float(base @ solved.dual)
    if min(times.min(), overhead) < 0:
        times, overhead = _without_negative(prior, kernel, rows, base, target, doubt)
    process = SumProcess(tuple(operators), times * mean, pull * mean, overhead * mean, kernel)
    return SumFit(process, process.overhead + counts @ process.times, solved.left_out * scale)


def _without_negative(
    prior: Array, kernel: OperatorKernel, rows: Array, base: Array, target: Array, doubt: Array
) -> tuple[Array, float]:  # fmt: skip
    """The most likely times of which none is negative: more work never makes the sum faster."""
    values, vectors = np.linalg.eigh(prior)
    kept = np.maximum(values, 1e-9 * values.max())
    root = (vectors / np.sqrt(kept)) @ vectors.T
    weight = 1 / np.sqrt(kernel.noise * doubt)
    size = len(prior)
    top = np.hstack([rows, base[:, None]]) * weight[:, None]
    bottom = np.zeros((size + 1, size + 1))
    bottom[:size, :size], bottom[size, size] = root, 1 / np.sqrt(kernel.overhead)
    right = np.concatenate([target * weight, np.zeros(size + 1)])
    try:
        found = np.asarray(nnls(np.vstack([top, bottom]), right)[0], np.float64)
    except RuntimeError as error:  # scipy's word for rounds used up
        raise EstimatorError(f"no times of {size} operators without negative ones were found: {error}") from error
    return found[:size], float(found[size])


def _fit_kernel(
    described: Descriptors, average: Array, rows: Array, target: Array, base: Array, doubt: Array,
    first: Array | None, iterations: int,
) -> OperatorKernel:  # fmt: skip
    scales = np.maximum(average @ described.physics, 1e-12)
    spread = np.maximum(described.sizes.std(0), 1e-6)
    covariance = _covariance(scales, spread, described, rows, base, doubt)
    theta = ascend(covariance, target, START, iterations=iterations, first=first)
    return OperatorKernel(theta, scales, spread)


def _covariance(
    scales: Array, spread: Array, described: Descriptors, rows: Array, base: Array, doubt: Array
) -> Callable[[Array], tuple[Array, Callable[[Array], Array]]]:
    """The covariance of relative latencies with its derivatives (see `likelihood.Covariance`)."""
    differences = [
        ((described.sizes[:, [i]] - described.sizes[:, i]) / spread[i]) ** 2 for i in range(len(SIZES))
    ]  # fmt: skip
    own = OperatorKernel(START, scales, spread).share(described) ** 2
    unit = _linear(OperatorKernel(START, scales, spread), described, described)

    def evaluate(theta: Array) -> tuple[Array, Callable[[Array], Array]]:
        kernel = OperatorKernel(theta, scales, spread)
        smooth, weights = _smooth(kernel, described, described), np.exp(theta)
        weight = weights[len(unit)]
        prior = weight * smooth + np.diag(weights[-3] * own)
        for factor, part in zip(weights, unit, strict=False):
            prior += factor * part
        matrix = rows @ prior @ rows.T + kernel.overhead * np.outer(base, base) + np.diag(kernel.noise * doubt)

        def pull_back(outer: Array) -> Array:
            inner = rows.T @ outer @ rows
            rough = inner * smooth * weight
            lengths = weights[len(unit) + 1 : len(unit) + 1 + len(SIZES)]
            return np.array([
                *(factor * np.vdot(inner, part) for factor, part in zip(weights, unit, strict=False)),
                rough.sum(),
                *(-0.5 * length * np.vdot(rough, d) for length, d in zip(lengths, differences, strict=True)),
                kernel.own * np.diag(inner) @ own,
                kernel.overhead * base @ outer @ base,
                kernel.noise * np.diag(outer) @ doubt,
            ])  # fmt: skip

        return matrix, pull_back

    return evaluate
