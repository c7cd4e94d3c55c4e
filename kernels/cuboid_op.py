"""Cuboid attention as a shape-level operator, and the sections of its constants."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..common.errors import UnsupportedError
from ..targets.cost import ceil_div
from ..targets.isa import RECORD_HEADER_BYTES
from .cuboid_geometry import Cuboids, Triple
from .cuboid_tiles import Box, box_mask, boxes

_ALIGNMENT_BYTES = 64
_NORM_RECORD_BYTES = 12
_EXPONENTIAL_BYTES = 1024  # two tables of 256 int16


@dataclass(frozen=True, slots=True)
class CuboidAttention:
    """Cuboid self-attention of a (T, H, W, C) tensor, held as a map of T·H rows and W columns.

    `biased`: a bias is added to the logits; `projected`: there is a projection after the heads. With `global_vectors`
    (1, K, C) as second input, tokens see them too and they are updated from leaves of at most `leaf` cuboids;
    `global_own`: they also see each other; `separate`: what tokens and
    global vectors see of each other has projections of its own. `dtype` is int8 or, without global vectors, bf16.
    """

    size: Triple
    channels: int
    heads: int
    cuboid: Triple
    shift: Triple = (0, 0, 0)
    strategy: tuple[str, str, str] = ("l", "l", "l")
    padding: str = "zeros"
    biased: bool = True
    projected: bool = True
    global_vectors: int = 0
    global_own: bool = False
    leaf: int = 1
    separate: bool = False
    dtype: str = "int8"

    def __post_init__(self) -> None:
        for name in ("size", "cuboid", "shift", "strategy"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.heads < 1 or self.channels % self.heads:
            raise UnsupportedError(f"{self.heads} heads do not divide {self.channels} channels")
        if self.dtype not in ("int8", "bf16") or (self.dtype == "bf16" and self.global_vectors):
            far = " with global vectors" if self.global_vectors else ""
            raise UnsupportedError(f"cuboid attention{far} does not work on {self.dtype}")
        if self.keys * max(1, self.leaf) > 2**16:
            raise UnsupportedError(f"a softmax over {self.keys * max(1, self.leaf)} tokens exceeds 65536 elements")

    @property
    def cuboids(self) -> Cuboids:
        return _cuboids(self.size, self.cuboid, self.shift, self.strategy, self.padding)

    @property
    def input(self) -> Triple:
        return (self.size[0] * self.size[1], self.size[2], self.channels)

    @property
    def output(self) -> Triple:
        return self.input

    @property
    def head_channels(self) -> int:
        return self.channels // self.heads

    @property
    def token_channels(self) -> int:
        """Channels that every token is projected to: query, key and value; with `separate` projections also its query
        of global vectors, and the key and value that these see."""
        return (6 if self.separate else 3) * self.channels

    @property
    def keys(self) -> int:
        """Keys of every token: its cuboid and the global vectors."""
        return self.cuboids.volume + self.global_vectors

    @property
    def tokens(self) -> int:
        """Tokens with padding."""
        return self.cuboids.count * self.cuboids.volume

    @property
    def macs(self) -> int:
        """Projections and both products, padding included."""
        return self.int8_macs + self.int8x16_macs

    @property
    def int8_macs(self) -> int:
        """Those of projections and of queries × keys."""
        dense = self.channels * (self.token_channels + (self.channels if self.projected else 0))
        chunks = self.chunks * self.channels * self.channels
        far = self.global_vectors * (chunks + (self.tokens + self._own_keys) * self.channels)
        return self.tokens * (dense + self.keys * self.channels) + far

    @property
    def int8x16_macs(self) -> int:
        """Those of shares × values, with shares of 16 bits."""
        far = self.global_vectors * (self.tokens + self._own_keys) * self.channels
        return self.tokens * self.keys * self.channels + far

    @property
    def _own_keys(self) -> int:
        return self.global_vectors if self.global_own else 0

    @property
    def record_pitch(self) -> int:
        """Bytes of the weight record of one output of a projection."""
        return 4 * ceil_div(RECORD_HEADER_BYTES + self.channels * self.element_bytes, 4)

    @property
    def element_bytes(self) -> int:
        """Bytes of an element of every map but logits and shares, which have two."""
        return 2 if self.dtype == "bf16" else 1

    @property
    def score_tables(self) -> int:
        """Different addends of the logits: one for each mask that occurs, or none."""
        return len(score_masks(self)) if self.biased or not self.cuboids.mask.all() else 0

    def sections(self) -> dict[str, tuple[int, int]]:
        """Offset and bytes of each part of the constants in the order of their first use, and "end" for the total."""
        volume = self.cuboids.volume
        sizes = {
            "norm": _NORM_RECORD_BYTES * self.channels,
            "token": self.record_pitch * self.token_channels,
            "scores": 4 * self.score_tables * self.heads * volume * self.keys,
            "global_hidden": 4 * self.hidden_tables * volume if self.global_vectors else 0,
            "exponential": 0 if self.dtype == "bf16" else _EXPONENTIAL_BYTES,
            "global_norm": _NORM_RECORD_BYTES * self.channels if self.global_vectors else 0,
            "global_exponential": _EXPONENTIAL_BYTES if self.global_vectors else 0,
            "out": self.record_pitch * self.channels if self.projected else 0,
        }
        found: dict[str, tuple[int, int]] = {}
        end = 0
        for name, size in sizes.items():
            found[name] = (end, size)
            end += _ALIGNMENT_BYTES * ceil_div(size, _ALIGNMENT_BYTES)
        return found | {"end": (end, 0)}

    @property
    def hidden_tables(self) -> int:
        """Tables of addends for the logits of global queries: one for each mask, where padding is ignored."""
        return len(score_masks(self)) if self.padding == "ignore" and self.cuboids.is_padded else 0

    def load(self, first: str, last: str) -> tuple[int, int]:
        """Offset and bytes of the constants from one section to another."""
        found = self.sections()
        start, (end, size) = found[first][0], found[last]
        return start, end + size - start

    @property
    def loaded_bytes(self) -> int:
        """Bytes of constants that a program moves: without what only aligns one load behind another."""
        ends = (
            ("norm", "norm"),
            ("token", "token"),
            ("scores", "global_hidden"),
            ("exponential", "global_exponential"),
        )
        resident = sum(self.load(*pair)[1] for pair in (*ends, ("out", "out")))
        return resident + self.chunks * self.chunk_bytes

    @property
    def read_bytes(self) -> int:
        """Bytes of the map that a program gathers: every token once, more often where axes are stretched."""
        return int((self.cuboids.gathered >= 0).sum()) * self.channels * self.element_bytes

    @property
    def resident_bytes(self) -> int:
        """Constants that stay in SRAM."""
        return self.sections()["end"][0]

    @property
    def chunks(self) -> int:
        """Square matrices of the global vectors, which are loaded one at a time when they are needed."""
        own = 3 if self.separate and self.global_own else 0
        return (3 + own + self.projected) if self.global_vectors else 0

    @property
    def chunk_bytes(self) -> int:
        return _ALIGNMENT_BYTES * ceil_div(self.record_pitch * self.channels, _ALIGNMENT_BYTES)

    @property
    def constant_bytes(self) -> int:
        return self.resident_bytes + self.chunks * self.chunk_bytes

    @property
    def leaf_boxes(self) -> tuple[Box, ...]:
        """The boxes whose tiles are the leaves from which global vectors are updated."""
        return tuple(boxes(self.cuboids, self.leaf))

    def groups(self) -> list[list[list[int]]]:
        """Leaves of cuboid numbers in groups that are joined first."""
        found = []
        for box in self.leaf_boxes:
            leaves, fan = list(box.cuboid_ids(self.cuboids.blocks)), fan_of(box.tile_count)
            found += [leaves[start : start + fan] for start in range(0, len(leaves), fan)]
        return found


def fan_of(leaves: int) -> int:
    """Leaves per group: the divisor that keeps fewest parts in memory."""
    return min((n for n in range(1, leaves + 1) if leaves % n == 0), key=lambda n: (n + leaves // n, n))


@lru_cache(maxsize=4096)
def _cuboids(size: Triple, cuboid: Triple, shift: Triple, strategy: tuple[str, str, str], padding: str) -> Cuboids:
    return Cuboids.of(size, cuboid, shift, strategy, padding)


@lru_cache(maxsize=4096)
def score_masks(op: CuboidAttention) -> tuple[bytes, ...]:
    """The different masks of an operator's boxes as raw (volume, volume) booleans, in order of appearance."""
    return tuple(dict.fromkeys(box_mask(op.cuboids, box).tobytes() for box in boxes(op.cuboids, 1)))


def score_table(op: CuboidAttention, first_cuboid: int) -> int:
    """Which of `score_masks` applies to a cuboid."""
    return score_masks(op).index(np.ascontiguousarray(op.cuboids.mask[first_cuboid]).tobytes())
