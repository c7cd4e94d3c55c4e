"""A new device from a handful of networks, with what other devices have taught.

latency(network) = Σ_s a_s · source_s(network) + Σ operator times + overhead, everything zero-mean Gaussian: the
prediction of each known device's model with a weight of its own, and operator times drawn from the same physical
prior as in `sum_process`, to which each source's own operator times are added as a direction (closed-form Bayesian
linear regression; Bishop, Pattern Recognition and Machine Learning, 2006, section 3.3). Ten samples cannot tell how
much of each to believe, nor how the device reads graphs, so predictions of all hypotheses are averaged by their
evidence (ibid., section 3.4). Nor can one wrong sample among ten be averaged away: each may be one that tells
nothing, with a variance of its own (Box and Tiao, Biometrika 55, 1968). `transfer_choice` says what to measure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import ArrayLike

from ...common.errors import EstimatorError
from ..opgraph.operator import Operator
from .descriptors import describe
from .graph_table import Array
from .network_model import NetworkModel
from .sum_process import START, OperatorKernel
from .transfer_prior import OVERHEAD, TRUST, Known, along_sources, count_operators, operator_times, reading_odds

_LEAST = 3
_SCALE = (0.3, 1.0, 3.0)  # deviation of operator times, in parts of what the prior says
_NOISE = (0.02, 0.06, 0.15)  # relative errors of measurements and model
_WRONG = 1.0  # relative error of a sample that tells nothing
_WRONG_ODDS = 0.05
_FEWEST_RIGHT = 5  # samples for each that may be wrong
_NEGLIGIBLE = 1e-3  # weight below which a hypothesis is left out


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
        left, right = (count_operators(known.graphs, operators) for known in (networks, samples))
        described = describe(operators)
        mean = float(np.exp(np.log(model.latency).mean()))
        scales = np.maximum(right.mean(0) @ described.physics, 1e-12)
        spread = np.maximum(described.sizes.std(0), 1e-6)
        share = OperatorKernel(START, scales, spread).share(described)
        self._operators = list[Array]()
        for theta in model.thetas:
            kernel = OperatorKernel(theta, scales, spread)
            times = kernel(described, described) + np.diag(kernel.own * share**2)
            times += along_sources(operators, right.mean(0), model.directions)
            self._operators.append(mean**2 * (left @ times @ right.T))
        size = np.exp(np.log(samples.sources).mean(0)) if samples.sources.size else np.ones(0)
        self._sources = mean**2 * (networks.sources / size) @ (samples.sources / size).T
        self._overhead = (mean * OVERHEAD) ** 2

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


def _unfitted(samples: Mapping[str, Known], latency: Array, sources: Sequence[NetworkModel]) -> TransferModel:
    thetas = (START, *((np.mean([source.sum.kernel.theta for source in sources], axis=0),) if sources else ()))
    directions = tuple(operator_times(source) for source in sources)
    return TransferModel(dict(samples), latency, thetas, directions, ())


def _posteriors(model: TransferModel, reading: str) -> list[_Posterior]:
    samples = model.samples[reading]
    terms, relative = _Terms(model, samples, samples), np.outer(model.latency, model.latency)
    grid = product(range(len(model.thetas)), TRUST if samples.sources.size else (0.0,), _SCALE, _NOISE)
    hypotheses = [Hypothesis(reading, *setting) for setting in grid]
    return [_posterior(terms.covariance(hypothesis) / relative, hypothesis) for hypothesis in hypotheses]


def _posterior(covariance: Array, hypothesis: Hypothesis) -> _Posterior:
    log_evidence, dual = _explained(covariance + hypothesis.noise**2 * np.eye(len(covariance)))
    return _Posterior(hypothesis, float(np.log(reading_odds(hypothesis.reading))) + log_evidence, dual)


def _explained(covariance: Array) -> tuple[float, Array]:
    """Log evidence and dual (samples,) of targets that are all one: with the latencies as units they are.

    Both are averaged over which samples are wrong. Of sets of wrong samples those are looked at that add any one to
    the most likely smaller set; each costs an update of rank one.
    """
    inverse = np.linalg.inv(covariance)
    dual = inverse.sum(1)
    log_evidence = -0.5 * float(dual.sum()) + 0.5 * float(np.linalg.slogdet(inverse)[1])
    evidences, duals = [np.array([log_evidence])], [dual[None]]
    wrong = list[int]()
    for _ in range(len(dual) // _FEWEST_RIGHT):
        spread = 1 + _WRONG**2 * np.diag(inverse)
        gain = 0.5 * (_WRONG**2 * dual**2 / spread - np.log(spread)) + np.log(_WRONG_ODDS)
        gain[wrong] = -np.inf
        updated = dual - _WRONG**2 * (inverse * (dual / spread)).T
        evidences, duals = [*evidences, log_evidence + gain], [*duals, updated]
        best = int(np.argmax(gain))
        inverse = inverse - _WRONG**2 * np.outer(inverse[best], inverse[best]) / spread[best]
        log_evidence, dual, wrong = log_evidence + float(gain[best]), updated[best], [*wrong, best]
    logs = np.concatenate(evidences)
    return float(np.logaddexp.reduce(logs)), _normalised(logs) @ np.concatenate(duals)


def _normalised(log_weights: Array) -> Array:
    weights = np.exp(log_weights - log_weights.max())
    return weights / weights.sum()


def _above(latency: Array, least: float) -> Array:
    """Latencies below `least` are squeezed into what is above zero, in order."""
    return np.where(latency > least, latency, least * np.exp(np.minimum(latency / least, 1) - 1))
