"""How well an untrained network tells the samples of a minibatch apart."""

from __future__ import annotations

import math

import torch

from .base import proxy
from .subject import Subject

_RIDGE = 1e-5  # keeps the logarithm of a vanishing eigenvalue finite, value of the paper


@proxy("naswot", 'Mellor et al., "Neural Architecture Search without Training", ICML 2021, eq. 2')
def naswot(subject: Subject) -> float:
    """Mean log-eigenvalue of the Hamming kernel of activation codes, so independent of the batch size."""
    trace = subject.trace
    if not trace.units:
        return -math.inf
    sign, logdet = torch.linalg.slogdet(trace.agreement)
    return float(logdet) / len(trace.agreement) if sign > 0 else -math.inf


@proxy("jacob-cov", "Mellor et al. 2020 (arXiv:2006.04647, first version), as Abdelfattah et al., ICLR 2021, use it")
def jacob_cov(subject: Subject) -> float:
    """Low correlation between the input gradients of different samples."""
    rows = subject.jacobian.images
    centred = rows - rows.mean(1, keepdim=True)
    norms = centred.norm(dim=1, keepdim=True)
    if not bool(torch.isfinite(norms).all() and (norms > 0).all()):
        return -math.inf
    unit = centred / norms
    spectrum = torch.linalg.eigvalsh(unit @ unit.T) + _RIDGE
    if not bool((spectrum > 0).all()):
        return -math.inf
    return -float((spectrum.log() + 1 / spectrum).mean())


@proxy("swap", 'Peng et al., "SWAP-NAS", ICLR 2024 (arXiv:2403.04161), without its size regulariser')
def swap(subject: Subject) -> float:
    """Logarithm of the number of different activation patterns that units have over the minibatch."""
    patterns = subject.trace.patterns
    return math.log(patterns) if patterns > 1 else -math.inf
