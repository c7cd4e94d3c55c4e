"""What a run of the program leaves, and the small network that the commands are tried on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

TINY = {
    "resolution": 8, "activation": "relu", "depth_multiplier": 1, "stages": 1, "head_channels": 0,
    "stem_channels": 8, "stem_kernel": 3, "stem_stride": 1,
    "stage1_depth": 1, "stage1_block1": "fused", "stage1_expansion": 2,
    "stage1_kernel": 3, "stage1_channels": 17, "stage1_stride": 2,
}  # fmt: skip


@dataclass(frozen=True)
class Ran:
    """What one command left."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Ran]
