"""`AdditiveModel`: the latency of each operator, learned from the latencies of sums of operators.

latency(model) = runtime's cost per run + Σ over operators of physics(operator) × (1 + g(operator))

Physics is a sum of non-negative costs (`physics.py`). g is a Gaussian process: a smooth part over the logarithms of
the operator's extents within its kind, and a part of each operator's own. Since g enters the sums linearly, its
posterior given any set of measured sums is exact (Rasmussen and Williams 2006, eqs. 2.23-2.24, with a linear map of
the outputs), and so is the variance that any further measurement would remove.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from ...common.errors import EstimatorError
from .doubts import CostDoubt
from .executed import ExecutedOperator
from .operator_costs import OperatorCosts, Sum, fit_costs
from .work import Work, matrix, work_of

Floats = NDArray[np.float64]
UNKNOWN_KIND = 0.5
"""Relative standard deviation of the costs of a kind that was never measured: those of its family are a guess."""
_REACH = 10.0  # a network has several times the surroundings of a piece, and that is no extrapolation


@dataclass(frozen=True, slots=True)
class Deviations:
    """Relative standard deviations: `smooth` over extents, `own` of each operator, `noise` of a measured sum.

    `length` is the distance, in doublings of an extent, over which the smooth part forgets.
    """

    smooth: float = 0.2
    own: float = 0.08
    noise: float = 0.02
    length: float = 4.0


class Operators:
    """The distinct operators of some sums, and each sum as a row over them."""

    def __init__(self, sums: Sequence[Sum], known: Sequence[ExecutedOperator] = ()) -> None:
        found = {operator.digest: operator for operator in known}
        found.update({t.operator.digest: t.operator for total in sums for t in total.terms})
        self.operators = list(found.values())
        self.works: list[Work] = [work_of(operator) for operator in self.operators]
        self._number = {digest: i for i, digest in enumerate(found)}

    def counts(self, sums: Sequence[Sum]) -> Floats:
        """(sums, operators): how often each occurs."""
        table = np.zeros((len(sums), len(self.operators)))
        for row, total in enumerate(sums):
            for term in total.terms:
                table[row, self._number[term.operator.digest]] += 1
        return table


def covariance(a: Sequence[Work], b: Sequence[Work], deviations: Deviations) -> Floats:
    """(a, b): covariance of the smooth part of g; nothing is shared between kinds. Matérn 3/2 over the extents."""
    kinds = {kind: i for i, kind in enumerate(dict.fromkeys(w.kind for w in (*a, *b)))}
    left, right = (np.array([kinds[w.kind] for w in works], np.int64) for works in (a, b))
    x, y = matrix(a) / deviations.length, matrix(b) / deviations.length
    squared = (x**2).sum(1)[:, None] + (y**2).sum(1)[None, :] - 2 * x @ y.T
    distance = np.sqrt(3 * np.maximum(squared, 0))
    return deviations.smooth**2 * (1 + distance) * np.exp(-distance) * (left[:, None] == right[None, :])


class AdditiveModel:
    """Posterior over operators' latencies given measured sums; see `fit_additive`.

    Args:
        sums: what was measured.
        latency_us: its latencies, µs.
        costs: the physics.
        deviations: how far operators deviate from it.
        doubts: by how much each measurement is noisier than `deviations.noise` says, at least 1.
    """

    def __init__(
        self,
        sums: Sequence[Sum],
        latency_us: Sequence[float],
        costs: OperatorCosts,
        deviations: Deviations,
        doubts: Sequence[float] = (),
    ) -> None:
        self.sums, self.latency_us = tuple(sums), tuple(latency_us)
        self.costs, self.deviations = costs, deviations
        self.doubts = tuple(doubts) or (1.0,) * len(sums)
        self._known = Operators(sums)
        rows = self._known.counts(sums) * costs.operators_us(self._known.works)
        y = np.asarray(latency_us, np.float64)
        gap = (y - self._physics(rows, sums)) / y
        self._rows = rows / y[:, None]
        self._cost_doubt = CostDoubt(costs, sums, y, np.array(self.doubts), deviations.noise)
        self._factor, self._weights = _condition(self._rows, gap, self._known.works, deviations, np.array(self.doubts))

    def predict(self, sums: Sequence[Sum]) -> tuple[Floats, Floats]:
        """Latencies of `sums` and their standard deviations, µs."""
        asked = Operators(sums)
        rows = asked.counts(sums) * self.costs.operators_us(asked.works)
        cross = self._covariance(asked)
        link = rows @ cross @ self._rows.T
        mean = self._physics(rows, sums) + link @ self._weights
        spread = np.einsum("so,op,sp->s", rows, self._prior(asked.works), rows, optimize=True)
        spread -= np.einsum("sm,ms->s", link, cho_solve(self._factor, link.T))
        floor = self._physics(0.1 * rows, sums)  # g below −0.9 would be faster than any machine
        spread = np.maximum(spread, 0) + self._unmeasured_us(sums) ** 2 + self._cost_doubt.variance_us2(sums)
        return np.maximum(mean, floor), np.sqrt(spread) + self.deviations.noise * mean

    def _unmeasured_us(self, sums: Sequence[Sum]) -> Floats:
        """(sums,) cost of surroundings beyond the most that any measurement had of each: as doubtful as it is large."""
        most = self.costs.quantities(self.sums).max(0)
        beyond = np.maximum(self.costs.quantities(sums) - _REACH * most, 0)
        return UNKNOWN_KIND * (beyond @ np.array(self.costs.surroundings))

    def operators(self, asked: Operators) -> tuple[Floats, Floats]:
        """(operators,) what each takes by itself, without its surroundings, and the standard deviation of that, µs."""
        costs = self.costs.operators_us(asked.works)
        link = self._covariance(asked) @ self._rows.T
        variance = np.diag(self._prior(asked.works)) - np.einsum("om,mo->o", link, cho_solve(self._factor, link.T))
        return costs * np.maximum(1 + link @ self._weights, 0.1), costs * np.sqrt(np.maximum(variance, 0))

    def _prior(self, works: Sequence[Work]) -> Floats:
        """(works, works): covariance of g before any measurement; a kind that nobody measured is doubted as a whole."""
        table = covariance(works, works, self.deviations)
        table[np.diag_indices_from(table)] += self.deviations.own**2
        kinds = np.array([work.kind for work in works])
        unknown = ~np.isin(kinds, list(self.costs.kinds))
        return table + UNKNOWN_KIND**2 * (unknown[:, None] & (kinds[:, None] == kinds[None, :]))

    def left_out_us(self) -> Floats:
        """(measurements,) what the others say of each, given the costs, µs (Rasmussen and Williams 2006, eq. 5.12)."""
        precision = np.diag(cho_solve(self._factor, np.eye(len(self.latency_us))))
        y = np.asarray(self.latency_us, np.float64)
        return np.maximum(y * (1 - self._weights / precision), 0.01 * y)

    def surprises(self) -> Floats:
        """(measurements,) distance of each from what the others predict, in standard deviations without its doubt.

        Closed form of leaving one out (Rasmussen and Williams 2006, eqs. 5.10-5.12).
        """
        precision = np.diag(cho_solve(self._factor, np.eye(len(self.latency_us))))
        noise = self.deviations.noise
        variance = np.maximum(1 / precision - (noise * np.array(self.doubts)) ** 2, 0) + noise**2
        return np.abs(self._weights / precision) / np.sqrt(variance)

    def _physics(self, rows: Floats, sums: Sequence[Sum]) -> Floats:
        return rows.sum(1) + self.costs.surroundings_us(sums)

    def _covariance(self, asked: Operators) -> Floats:
        """(asked, measured): of g, the own part where an operator is one of the measured."""
        table = covariance(asked.works, self._known.works, self.deviations)
        same = {operator.digest: i for i, operator in enumerate(self._known.operators)}
        for row, operator in enumerate(asked.operators):
            if (column := same.get(operator.digest)) is not None:
                table[row, column] += self.deviations.own**2
        return table


def _condition(
    rows: Floats, gap: Floats, works: Sequence[Work], deviations: Deviations, doubts: Floats
) -> tuple[tuple[Floats, bool], Floats]:
    """Cholesky factor of the covariance of the relative gaps, and its solution for `gap`."""
    prior = covariance(works, works, deviations)
    prior[np.diag_indices_from(prior)] += deviations.own**2
    joint = rows @ prior @ rows.T
    joint[np.diag_indices_from(joint)] += (deviations.noise * doubts) ** 2
    factor = cho_factor(joint, lower=True)
    return factor, cho_solve(factor, gap)


def fit_additive(sums: Sequence[Sum], latency_us: Sequence[float], doubts: Sequence[float] = ()) -> AdditiveModel:
    """Physics by relative least squares, deviations by the largest marginal likelihood.

    `doubts` says by how much each latency is noisier than a usual one, at least 1; noisy ones count less.

    Raises:
        EstimatorError: fewer than ten sums, or a latency that is not positive.
    """
    y = np.asarray(latency_us, np.float64)
    if len(sums) < 10 or len(sums) != len(y):
        raise EstimatorError(f"{len(sums)} sums and {len(y)} latencies; at least ten of both are needed")
    if not (np.isfinite(y).all() and (y > 0).all()):
        raise EstimatorError("latencies must be positive", hint="measure again")
    least = np.maximum(np.asarray(doubts, np.float64), 1.0) if len(doubts) else np.ones(len(y))
    costs = fit_costs(sums, y, least)
    model = AdditiveModel(sums, latency_us, costs, _fit_deviations(sums, y, costs, least), least.tolist())
    for _ in range(_REWEIGHTS):
        noisier = np.maximum(least, model.surprises() / _SURPRISE)
        deviations = _fit_deviations(sums, y, costs, noisier, model.deviations)
        model = AdditiveModel(sums, latency_us, costs, deviations, noisier.tolist())
    return model


_REWEIGHTS = 2
_SURPRISE = 2.0  # standard deviations from which on a measurement is doubted
_BOUNDS = np.log([[0.02, 0.6], [0.01, 0.4], [0.004, 0.2], [1.0, 16.0]])


def _fit_deviations(
    sums: Sequence[Sum], y: Floats, costs: OperatorCosts, doubts: Floats, start: Deviations | None = None
) -> Deviations:
    known = Operators(sums)
    rows = known.counts(sums) * costs.operators_us(known.works)
    gap = (y - rows.sum(1) - costs.surroundings_us(sums)) / y
    rows /= y[:, None]

    def loss(logs: Floats) -> float:
        inside = np.clip(logs, *_BOUNDS.T)
        factor, weights = _condition(rows, gap, known.works, Deviations(*np.exp(inside).tolist()), doubts)
        likelihood = -0.5 * gap @ weights - np.log(np.diag(factor[0])).sum()
        return float(10 * ((logs - inside) ** 2).sum() - likelihood)

    first = start or Deviations(0.1, 0.08, 0.03, 3.0)
    begin = np.log([first.smooth, first.own, first.noise, first.length])
    found = minimize(loss, begin, method="Nelder-Mead", options={"maxfev": 60, "xatol": 0.05, "fatol": 0.2})
    return Deviations(*np.exp(np.clip(found.x, *_BOUNDS.T)).tolist())
