"""Splits that never change: each class is ordered by a hash of its items' keys and cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..common.files import sha256
from .tasks import Split


def stratified(
    keys: Sequence[str], labels: NDArray[np.int64], counts: Mapping[Split, Mapping[int, int]]
) -> dict[Split, NDArray[np.int64]]:
    """Item numbers by split, each in a shuffled order, so that the first n are a fair sample.

    `counts[split][label]` items of each class go to TEST and VALIDATION, the rest to TRAIN.
    """
    hashes = [sha256(key.encode()) for key in keys]
    orders = [sha256(digest.encode()) for digest in hashes]  # not the hash that cut: each class was cut elsewhere
    parts: dict[Split, list[int]] = {split: [] for split in Split}
    for label in np.unique(labels).tolist():
        items = sorted(np.flatnonzero(labels == label).tolist(), key=lambda item: (hashes[item], keys[item]))
        test, validation = counts[Split.TEST][label], counts[Split.VALIDATION][label]
        parts[Split.TEST] += items[:test]
        parts[Split.VALIDATION] += items[test : test + validation]
        parts[Split.TRAIN] += items[test + validation :]
    return {split: np.array(sorted(items, key=lambda item: orders[item]), np.int64) for split, items in parts.items()}
