"""What is known about the inside of a device before anything is measured: units, tiles and packing of channels."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ...common.errors import ConfigError, EstimatorError

_EDGES = (16, 32, 64, 128, 256)
GEMM_TILES = tuple((m, n) for m in _EDGES for n in _EDGES if 512 <= m * n <= 32768)
STREAM_TILES = ((64, 1), (256, 1), (1024, 1))
UNITS = (1, 2, 4, 8, 16, 24, 32, 40, 56, 68, 80, 96, 108, 132, 160, 216)
PACKS = (1, 4, 8, 16, 32)


@dataclass(frozen=True, slots=True)
class Machine:
    """units: work groups that run at the same time (multiprocessors of a GPU, cores of a CPU, arrays of an NPU).
    channel_pack: input channels are stored and multiplied in multiples of it.
    gemm_tiles: (output positions, output channels) that a unit computes at a time in matrix products.
    stream_tiles: output elements that a unit computes at a time in everything else, beside a 1.

    Raises:
        ConfigError: an extent below 1, or no tiles.
    """

    units: int
    channel_pack: int = 1
    gemm_tiles: tuple[tuple[int, int], ...] = GEMM_TILES
    stream_tiles: tuple[tuple[int, int], ...] = STREAM_TILES

    def __post_init__(self) -> None:
        extents = (self.units, self.channel_pack, *(n for tile in (*self.gemm_tiles, *self.stream_tiles) for n in tile))
        if min(extents) < 1 or not self.gemm_tiles or not self.stream_tiles:
            raise ConfigError("units, packing and tiles of a machine start at 1", where=f"{self.units} units")

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def machine_from_dict(value: dict[str, Any]) -> Machine:
    """The inverse of `Machine.as_dict`; a malformed value raises `EstimatorError`."""
    try:
        gemm, stream = (tuple((int(m), int(n)) for m, n in value[name]) for name in ("gemm_tiles", "stream_tiles"))
        return Machine(int(value["units"]), int(value["channel_pack"]), gemm, stream)
    except (KeyError, TypeError, ValueError) as error:
        raise EstimatorError(f"malformed machine: {error!r}", hint="fit the estimator again") from error
