"""Every random stream of a search, derived from one root seed, so that no stream depends on how far another got."""

from __future__ import annotations

import secrets
from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """Numbers are part of the result format: a new stream gets a new number, none is ever reused."""

    SAMPLER = 0
    CALIBRATION = 1
    PROXY = 2
    TRAINING = 3
    CANDIDATES = 4
    CHILDREN = 5
    BATCH = 6
    PREDICTOR = 7
    SUPERNET = 8


def seed_for(root: int, stream: Stream, index: int = 0) -> int:
    """A 32-bit seed that depends on nothing but (root, stream, index)."""
    return int(np.random.SeedSequence([root, int(stream), index]).generate_state(1)[0])


def draw_root_seed() -> int:
    """A fresh root seed in 0 … 2^32 − 1, for a run that was given none; the caller stores it."""
    return secrets.randbits(32)
