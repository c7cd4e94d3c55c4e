"""Sizes: the yardstick that any real score has to beat, and the part of a network that the output hears."""

from __future__ import annotations

import math

from .base import proxy
from .subject import Subject


@proxy("params", "number of parameters")
def params(subject: Subject) -> float:
    """Logarithm of the number of parameters."""
    return _log(subject.parameters)


@proxy("macs", "number of multiplications")
def macs(subject: Subject) -> float:
    """Logarithm of the number of multiply-accumulates, whether or not anything hears them."""
    return _log(subject.macs)


@proxy("complexity", 'FLOPs, a component of Lee and Ham, "AZ-NAS", CVPR 2024; here of live layers only')
def complexity(subject: Subject) -> float:
    """Logarithm of the multiply-accumulates of layers that depend on the input and reach the output."""
    heard = subject.jacobian.heard
    return _log(sum(product.macs for product, live in zip(subject.trace.products, heard, strict=True) if live))


def _log(size: int) -> float:
    return math.log(size) if size > 0 else -math.inf
