"""Task `digits`: the 1,797 handwritten digits that scikit-learn bundles (8×8, UCI optdigits test set)."""

from __future__ import annotations

from functools import cache
from typing import cast

import numpy as np

from .images import Pixels
from .splits import stratified
from .tasks import RawSplit, Split, Task

TEST_PER_CLASS = 36
VALIDATION_PER_CLASS = 18


@cache
def _digits() -> tuple[Pixels, dict[Split, np.ndarray], np.ndarray]:
    from sklearn.datasets import load_digits  # inside: sklearn takes half a second to import

    data, labels = cast("tuple[np.ndarray, np.ndarray]", load_digits(return_X_y=True))
    pixels = np.rint(data * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)  # stored as 0..16
    labels = labels.astype(np.int64)
    counts = {
        Split.TEST: dict.fromkeys(range(10), TEST_PER_CLASS),
        Split.VALIDATION: dict.fromkeys(range(10), VALIDATION_PER_CLASS),
    }
    return pixels, stratified([f"digits/{i}" for i in range(len(labels))], labels, counts), labels


def _read(split: Split) -> RawSplit:
    pixels, parts, labels = _digits()
    return RawSplit(pixels[parts[split]], labels[parts[split]])


DIGITS = Task(
    name="digits",
    class_names=tuple("0123456789"),
    channels=1,
    mean=(0.305,),
    std=(0.323,),
    resolution=8,
    read=_read,
    summary="scikit-learn's handwritten digits, bright on black: 1257 train, 180 validation, 360 test",
)
