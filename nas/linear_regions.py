"""NASWOT and Jacobian covariance: how well an untrained network tells the samples of a minibatch apart.

NASWOT: Mellor et al., "Neural Architecture Search without Training", ICML 2021, eq. 2. Jacobian covariance:
the first version of the same paper, as Abdelfattah et al. (ICLR 2021) use it.
"""

from __future__ import annotations

import math

import numpy as np

from .proxies import Subject

_RIDGE = 1e-5  # keeps the logarithm of a vanishing eigenvalue finite, value of the paper


class Naswot:
    """Mean log-eigenvalue of the Hamming kernel of activation codes, so independent of the batch size."""

    name = "naswot"

    def score(self, subject: Subject) -> float:
        response = subject.response
        if not response.units:
            return -math.inf
        sign, logdet = np.linalg.slogdet(response.agreement)
        return float(logdet) / len(response.agreement) if sign > 0 else -math.inf


class JacobCov:
    """Low correlation between the input gradients of different samples scores high."""

    name = "jacob-cov"

    def score(self, subject: Subject) -> float:
        jacobian = subject.response.jacobian
        if not np.isfinite(jacobian).all() or (np.ptp(jacobian, axis=1) == 0).any():
            return -math.inf
        spectrum = np.linalg.eigvalsh(np.corrcoef(jacobian)) + _RIDGE
        if (spectrum <= 0).any():
            return -math.inf
        return -float(np.mean(np.log(spectrum) + 1 / spectrum))


NASWOT = Naswot()
JACOB_COV = JacobCov()
