"""What blocks add from the first to the last, on blocks found in the executed network: AZ-NAS and isometry.

Lee and Ham, "AZ-NAS: Assembling Zero-Cost Proxies for Network Architecture Search", CVPR 2024, section 3. Theirs are
computed on noise; here on the minibatch, whose forward pass other scores need as well. The fourth, complexity, is
`size.complexity`.
"""

from __future__ import annotations

import math
from itertools import pairwise

from .base import proxy
from .subject import Subject

_SOURCE = 'Lee and Ham, "AZ-NAS: Assembling Zero-Cost Proxies for NAS", CVPR 2024, section 3'


@proxy("expressivity", _SOURCE)
def expressivity(subject: Subject) -> float:
    """Sum over blocks of the entropy of the spectrum of their features: how many directions a map uses."""
    entropies = subject.block_entropies
    return math.fsum(entropies) if entropies else -math.inf


@proxy("progressivity", _SOURCE)
def progressivity(subject: Subject) -> float:
    """Least gain of spectral entropy from one block to the next."""
    entropies = subject.block_entropies
    return min((after - before for before, after in pairwise(entropies)), default=-math.inf)


@proxy("trainability", _SOURCE)
def trainability(subject: Subject) -> float:
    """Mean over blocks of 2 − σ − 1/σ, σ the largest stretch of a gradient between channels: best where σ is 1."""
    stretches = [pull.stretch for pull in subject.block_pulls]
    if not stretches or not min(stretches) > 0:
        return -math.inf
    return math.fsum(2 - s - 1 / s for s in stretches) / len(stretches)


@proxy("isometry", 'after Pennington et al., "Resurrecting the sigmoid ... dynamical isometry", NeurIPS 2017')
def isometry(subject: Subject) -> float:
    """Mean over blocks of −|ln gain|, the factor by which a gradient grows: best where it keeps its size."""
    gains = [pull.gain for pull in subject.block_pulls]
    if not gains or not min(gains) > 0:
        return -math.inf
    return -math.fsum(abs(math.log(gain)) for gain in gains) / len(gains)
