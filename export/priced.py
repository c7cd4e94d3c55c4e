"""What overlap is worth: for several amounts of SRAM, the overlap of all steps with its expected cycles and its price.

The price is log(cycles) + log(SRAM) / 8: twice the SRAM has to save 8 % of the cycles. Whoever asks for the least
SRAM states it as a limit, and has cycles alone counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf, log

from .overlap import Overlap, Timetable

_SHARES = (1.0, 0.95, 0.9, 0.8, 0.65, 0.0)  # of the SRAM that steps need: less overlap is easier to place
_GROWTH = 1.05  # from one amount of SRAM to the next that overlap may fill
_SRAM_WEIGHT = 0.125


@dataclass(frozen=True, slots=True)
class Priced:
    """The overlap of every step, for the SRAM up to `limit_bytes`."""

    price: float
    cycles: float
    limit_bytes: int
    overlaps: tuple[Overlap, ...]


@dataclass(frozen=True, slots=True)
class Market:
    """`needed` are the bytes of SRAM that each step takes without overlap. `given`: all of `capacity` may be used, and
    only cycles count."""

    table: Timetable
    needed: Sequence[int]
    capacity: int
    given: bool

    def price(self, cycles: float, sram_bytes: int) -> float:
        return log(cycles) + (0.0 if self.given else _SRAM_WEIGHT * log(sram_bytes))

    def offers(self) -> Iterator[Priced]:
        """The best price first; after what is worth considering, ever less overlap, which is easier to place."""
        most = self.capacity if self.given else max(self.needed)
        if not self.given:
            yield from sorted(self._beyond(), key=_rank)
        yield from sorted((self._within(int(most * share)) for share in _SHARES), key=_rank)

    def _beyond(self) -> Iterator[Priced]:
        """From what the steps need without overlap, up to where no saving could be worth it."""
        limit, fastest = max(self.needed), self._within(self.capacity).cycles
        least = inf
        while self.price(fastest, limit) < least:
            found = self._within(limit)
            least = min(least, found.price)
            yield found
            if limit >= self.capacity or found.cycles <= fastest:
                return
            limit = min(self.capacity, int(limit * _GROWTH) + 1)

    def _within(self, limit: int) -> Priced:
        found = self.table.overlaps([max(0, limit - held) for held in self.needed])
        cycles = self.table.expected_cycles(found)
        return Priced(self.price(cycles, max(limit, max(self.needed))), cycles, limit, found)


def _rank(found: Priced) -> tuple[float, float, int]:
    return found.price, found.cycles, found.limit_bytes
