"""A new device from a handful of networks, with what other devices have taught.

latency(network) = Σ_s a_s · source_s(network) + Σ operator times + overhead, everything zero-mean Gaussian: the
prediction of each known device's model with a weight of its own, and operator times drawn from the same physical
prior as in `sum_process`, to which each source's own operator times are added as a direction (closed-form Bayesian
linear regression; Bishop, Pattern Recognition and Machine Learning, 2006, section 3.3). Ten samples cannot tell how
much of each to believe, nor how the device reads graphs, so predictions of all hypotheses are averaged by their
evidence (ibid., section 3.4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod

import numpy as np
from numpy.typing import ArrayLike

from ...common.errors import EstimatorError
from ..opgraph.operator import Operator
from .descriptors import describe
from .graph_arrays import GraphCounts
from .graph_table import Array
from .likelihood import solve
from .network_model import NetworkModel
from .sum_process import START, OperatorKernel

_LEAST = 3
_TRUST = (0.03, 0.3)  # deviation of a source's weight, in parts of the mean latency
_SCALE = (0.3, 1.0, 3.0)  # deviation of operator times, in parts of what the prior says
_NOISE = (0.02, 0.06, 0.15)  # relative errors of measurements and model
_OVERHEAD = 0.1
_ODDS = {"forward": 0.2, "identities": 0.3}
"""What few runtimes do, against what many do."""
_DESIGN_NOISE = 0.2
_NEGLIGIBLE = 1e-3  # weight below which a hypothesis is left out


@dataclass(frozen=True, slots=True)
class Known:
    """Networks as the new device would read them, and what the sources say of them.

    graphs: (networks) under one reading. sources: (networks, sources) predicted latencies of the known devices.
    """

    graphs: Sequence[GraphCounts]
    sources: Array


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One setting of the prior. `theta` are hyper-parameters of `sum_process`."""

    reading: str
    theta: int
    trust: float
    scale: float
    noise: float


@dataclass(frozen=True, slots=True)
class _Posterior:
    hypothesis: Hypothesis
    log_evidence: float
    dual: Array  # of the relative latencies


@dataclass(frozen=True)
class TransferModel:
    """A fitted transfer; `fit_transfer` makes one."""

    samples: Mapping[str, Known]
    latency: Array
    thetas: tuple[Array, ...]
    directions: tuple[Mapping[Operator, float], ...]
    posteriors: tuple[_Posterior, ...]

    @property
    def readings(self) -> dict[str, float]:
        """The probability of each reading that is not negligible."""
        found: dict[str, float] = {}
        for posterior, weight in zip(self.posteriors, self._weights(), strict=True):
            reading = posterior.hypothesis.reading
            found[reading] = found.get(reading, 0.0) + float(weight)
        return found

    def predict(self, networks: Mapping[str, Known]) -> Array:
        """Latencies of networks (networks,), given under every reading of `readings`."""
        total = np.zeros(len(next(iter(networks.values())).graphs))
        least = 0.2 * float(self.latency.min())
        covariances = {name: _Terms(self, self.samples[name], networks[name]) for name in self.readings}
        for posterior, weight in zip(self.posteriors, self._weights(), strict=True):
            hypothesis = posterior.hypothesis
            latency = covariances[hypothesis.reading].covariance(hypothesis) @ (posterior.dual / self.latency)
            total += weight * np.log(_above(latency, least))
        return np.exp(total)

    def _weights(self) -> Array:
        return _normalised(np.array([posterior.log_evidence for posterior in self.posteriors]))


class _Terms:
    """The parts of the prior covariance between two lists of networks, in squared latency."""

    def __init__(self, model: TransferModel, samples: Known, networks: Known) -> None:
        operators = tuple(
            dict.fromkeys(op for known in (samples, networks) for graph in known.graphs for op in graph.operators)
        )
        left, right = _counts(networks.graphs, operators), _counts(samples.graphs, operators)
        described = describe(operators)
        mean = float(np.exp(np.log(model.latency).mean()))
        scales = np.maximum(right.mean(0) @ described.physics, 1e-12)
        spread = np.maximum(described.sizes.std(0), 1e-6)
        share = OperatorKernel(START, scales, spread).share(described)
        self._operators = list[Array]()
        for theta in model.thetas:
            kernel = OperatorKernel(theta, scales, spread)
            times = kernel(described, described) + np.diag(kernel.own * share**2)
            for direction in model.directions:
                known = np.array([direction.get(operator, 0.0) for operator in operators])
                amount = float(right.mean(0) @ known)
                times += np.outer(known, known) / max(amount, 1e-12) ** 2
            self._operators.append(mean**2 * (left @ times @ right.T))
        size = np.exp(np.log(samples.sources).mean(0)) if samples.sources.size else np.ones(0)
        self._sources = mean**2 * (networks.sources / size) @ (samples.sources / size).T
        self._overhead = (mean * _OVERHEAD) ** 2

    def covariance(self, hypothesis: Hypothesis) -> Array:
        """Between networks (rows) and samples (columns), without noise."""
        operators = hypothesis.scale**2 * (self._operators[hypothesis.theta] + self._overhead)
        return operators + hypothesis.trust**2 * self._sources


def fit_transfer(
    samples: Mapping[str, Known], latency: ArrayLike, sources: Sequence[NetworkModel]
) -> TransferModel:  # fmt: skip
    """Fits to the measured latencies (networks,) of `samples`, which stand under every reading to be considered.

    Raises:
        EstimatorError: fewer than three networks, or latencies that are not positive and finite.
    """
    measured = np.asarray(latency, np.float64)
    if len(measured) < _LEAST or not (np.isfinite(measured).all() and (measured > 0).all()):
        raise EstimatorError(
            f"a transfer needs {_LEAST} or more positive latencies, got {len(measured)}", hint="measure more networks"
        )
    if not samples or any(len(known.graphs) != len(measured) for known in samples.values()):
        raise EstimatorError("every reading needs as many networks as there are latencies")
    model = _unfitted(samples, measured, sources)
    found = [posterior for name in samples for posterior in _posteriors(model, name)]
    weights = _normalised(np.array([posterior.log_evidence for posterior in found]))
    kept = tuple(posterior for posterior, weight in zip(found, weights, strict=True) if weight > _NEGLIGIBLE)
    return replace(model, posteriors=kept)


def choose_samples(
    candidates: Mapping[str, Known], count: int, sources: Sequence[NetworkModel]
) -> tuple[int, ...]:  # fmt: skip
    """Which of `candidates` to measure on the new device, best first: each is the one whose latency the ones before
    it leave most uncertain, over all readings (greedy maximum variance, a pivoted Cholesky factorisation).

    Raises:
        EstimatorError: fewer candidates than wanted samples.
    """
    size = len(next(iter(candidates.values())).graphs)
    if not 1 <= count <= size:
        raise EstimatorError(f"{count} samples cannot be chosen from {size} candidates")
    covariance = sum(_odds(name) * _relative_prior(known, sources) for name, known in candidates.items())
    rest, chosen = np.asarray(covariance, np.float64), list[int]()
    noise = _DESIGN_NOISE**2 * float(np.mean(np.diag(rest)))
    for _ in range(count):
        variance = np.diag(rest).copy()
        variance[chosen] = -np.inf
        chosen.append(int(np.argmax(np.round(variance, 6))))  # equal ones by their order
        column = rest[:, chosen[-1]]
        rest = rest - np.outer(column, column) / (column[chosen[-1]] + noise)
    return tuple(chosen)


def _relative_prior(known: Known, sources: Sequence[NetworkModel]) -> Array:
    """The prior covariance of the candidates' latencies, each relative to its own deviation from nothing."""
    size = np.exp(np.log(known.sources).mean(1)) if known.sources.size else np.ones(len(known.graphs))
    model = _unfitted({"": known}, size, sources)
    operators = _Terms(model, known, known).covariance(Hypothesis("", 0, _TRUST[-1], 1.0, 0.0))
    deviation = np.sqrt(np.diag(operators))
    return operators / np.outer(deviation, deviation)


def _unfitted(samples: Mapping[str, Known], latency: Array, sources: Sequence[NetworkModel]) -> TransferModel:
    thetas = (START, *((np.mean([source.sum.kernel.theta for source in sources], axis=0),) if sources else ()))
    directions = tuple(dict(zip(source.sum.operators, source.sum.times, strict=True)) for source in sources)
    return TransferModel(dict(samples), latency, thetas, directions, ())


def _posteriors(model: TransferModel, reading: str) -> list[_Posterior]:
    samples = model.samples[reading]
    terms, relative = _Terms(model, samples, samples), np.outer(model.latency, model.latency)
    grid = product(range(len(model.thetas)), _TRUST if samples.sources.size else (0.0,), _SCALE, _NOISE)
    hypotheses = [Hypothesis(reading, *setting) for setting in grid]
    return [_posterior(terms.covariance(hypothesis) / relative, hypothesis) for hypothesis in hypotheses]


def _posterior(covariance: Array, hypothesis: Hypothesis) -> _Posterior:
    """With the latencies as units every target is one."""
    target = np.ones(len(covariance))
    found = solve(covariance + hypothesis.noise**2 * np.eye(len(target)), target)
    evidence = float(np.log(_odds(hypothesis.reading)))
    evidence -= 0.5 * float(target @ found.dual) + float(np.log(np.diag(found.factor)).sum())
    return _Posterior(hypothesis, evidence, found.dual)


def _odds(reading: str) -> float:
    return prod(odds for part, odds in _ODDS.items() if part in reading)


def _normalised(log_weights: Array) -> Array:
    weights = np.exp(log_weights - log_weights.max())
    return weights / weights.sum()


def _above(latency: Array, least: float) -> Array:
    """Latencies below `least` are squeezed into what is above zero, in order."""
    return np.where(latency > least, latency, least * np.exp(np.minimum(latency / least, 1) - 1))


def _counts(graphs: Sequence[GraphCounts], operators: Sequence[Operator]) -> Array:
    column = {operator: index for index, operator in enumerate(operators)}
    found = np.zeros((len(graphs), len(operators)))
    for row, graph in enumerate(graphs):
        for operator, count in graph.operators.items():
            found[row, column[operator]] = count
    return found
