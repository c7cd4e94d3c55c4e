"""Physics of executed operators: non-negative costs per launch, per multiply-accumulate, per element, per byte.

Costs belong to kinds of operators ("pointwise convolution with ReLU"). A kind that was measured little, or never,
leans on the common costs of its family; so nothing is ever costed zero for being unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from ...common.errors import EstimatorError
from ...common.files import stable_hash
from .executed import operator_from_dict
from .memory import Term
from .work import Work, work_of

Floats = NDArray[np.float64]
FAMILIES: tuple[str, ...] = ("conv", "product", "other")
COLUMNS = 8  # launch, 10⁶ MACs, at edges, idle by channels, by positions, serial, 10³ elements, 10³ runs
_ONCE = 4  # surroundings that do not depend on the caches
_REWEIGHTS = 4
_FINEST = 0.01  # relative errors below this are never outliers
_LEAN = 0.3  # weight of the family's costs beside one measurement of the kind
_AFAR_US, _AFAR_DOUBT_US = 0.01, 0.05  # per 10³ bytes from beyond a cache, before measurements, and its doubt
_NOISE = 0.03  # relative error of a measurement, against which that doubt is weighed
AFAR = _NOISE / _AFAR_DOUBT_US  # so firmly are the costs of data from afar held to `_AFAR_US`


@dataclass(frozen=True)
class Sum:
    """A model that runs as one: its operators, the tensors that cross its border, and how `cold` its paths are.

    `cold` is the share, 0..1, of the runtime's own code and records that has left the innermost cache since the last
    run.
    """

    terms: tuple[Term, ...]
    ports: int
    cold: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        terms = [{"operator": t.operator.as_dict(), "distant_bytes": list(t.distant_bytes)} for t in self.terms]
        return {"terms": terms, "ports": self.ports, "cold": self.cold}

    @cached_property
    def digest(self) -> str:
        return stable_hash(self.as_dict())


def sum_from_dict(value: Mapping[str, Any]) -> Sum:
    """The inverse of `Sum.as_dict`; a malformed value raises `EstimatorError`."""
    try:
        terms = tuple(
            Term(operator_from_dict(t["operator"]), tuple(float(b) for b in t["distant_bytes"])) for t in value["terms"]
        )
        return Sum(terms, int(value["ports"]), float(value["cold"]))
    except (KeyError, TypeError, ValueError) as error:
        raise EstimatorError(f"malformed sum of operators: {error}", hint="measure it again") from error


@dataclass(frozen=True)
class OperatorCosts:
    """µs per unit of each of the `COLUMNS`, by kind and by family of operators.

    `surroundings` are µs per run, per cold run, per operator of a cold run, per tensor at the border, and per 10³
    bytes from beyond each cache.
    """

    kinds: Mapping[str, tuple[float, ...]]
    families: Mapping[str, tuple[float, ...]]
    surroundings: tuple[float, ...]
    once: ClassVar[int] = _ONCE

    def operators_us(self, works: Sequence[Work]) -> Floats:
        """(operators,) µs, never zero: at least a tenth of the shortest launch."""
        least = 0.1 * min((costs[0] for costs in self.families.values() if costs[0] > 0), default=1.0)
        found = [float(np.dot(_columns(w), self.kinds.get(w.kind, self.families[w.family]))) for w in works]
        return np.maximum(np.array(found, np.float64), least)

    def surroundings_us(self, sums: Sequence[Sum]) -> Floats:
        """(sums,) µs that belong to no operator: the run itself, its borders, and data from afar."""
        return self.quantities(sums) @ np.array(self.surroundings)

    def quantities(self, sums: Sequence[Sum]) -> Floats:
        """(sums, surroundings): how much of each of the surroundings there is."""
        return _surroundings(sums, len(self.surroundings) - _ONCE)

    def vector(self) -> Floats:
        """All costs by kind, then the surroundings: what `design` is a table for."""
        return np.concatenate([*map(np.array, self.kinds.values()), np.array(self.surroundings)])

    def design(self, sums: Sequence[Sum]) -> Floats:
        """(sums, costs): how much of each of the costs in `vector` is in each sum; other kinds are left out."""
        works = [[w for t in s.terms if (w := work_of(t.operator)).kind in self.kinds] for s in sums]
        table = _table(works, {kind: i for i, kind in enumerate(self.kinds)}, lambda w: w.kind)
        return np.hstack([table, self.quantities(sums)])


def fit_costs(sums: Sequence[Sum], latency_us: Floats, doubts: Floats | None = None) -> OperatorCosts:
    """Relative least squares, first of costs by family, then of costs by kind that lean on these.

    Measurements that the first result misses by far count less in the next (Huber's weights): a process that
    disturbed one of them must not spoil the others. Those of large `doubts` count less from the start.
    """
    trust = 1 / doubts**2 if doubts is not None else np.ones(len(latency_us))
    works = [[work_of(term.operator) for term in total.terms] for total in sums]
    caches = max(len(term.distant_bytes) for total in sums for term in total.terms)
    around = _surroundings(sums, caches)
    pooled = _table(works, {name: i for i, name in enumerate(FAMILIES)}, lambda w: w.family)
    first = _solve(np.hstack([pooled, around]), latency_us, None, caches, np.ones(len(latency_us)))
    families = dict(zip(FAMILIES, _rows(first[: COLUMNS * len(FAMILIES)]), strict=True))
    kinds = {kind: work.family for row in works for work in row for kind in (work.kind,)}
    table = _table(works, {kind: i for i, kind in enumerate(kinds)}, lambda w: w.kind)
    prior = np.concatenate([*(np.array(families[family]) for family in kinds.values()), first[-around.shape[1] :]])
    design = np.hstack([table, around])
    second = _solve(design, latency_us, prior, caches, trust)
    for _ in range(_REWEIGHTS):
        second = _solve(design, latency_us, prior, caches, trust * huber(design @ second / latency_us - 1))
    fitted = dict(zip(kinds, _rows(second[: COLUMNS * len(kinds)]), strict=True))
    return OperatorCosts(fitted, families, tuple(second[-around.shape[1] :].tolist()))


def _columns(work: Work) -> Floats:
    millions = np.array((work.macs, work.edge_macs, work.narrow, work.ragged, work.serial)) / 1e6
    return np.array([1.0, *millions, work.elements / 1e3, work.runs / 1e3])


def _table(works: Sequence[Sequence[Work]], number: Mapping[str, int], key: Callable[[Work], str]) -> Floats:
    table = np.zeros((len(works), COLUMNS * len(number)))
    for row, members in enumerate(works):
        for work in members:
            first = COLUMNS * number[key(work)]
            table[row, first : first + COLUMNS] += _columns(work)
    return table


def _surroundings(sums: Sequence[Sum], caches: int) -> Floats:
    distant = np.zeros((len(sums), caches))
    for row, total in enumerate(sums):
        for term in total.terms:
            distant[row] += np.array(term.distant_bytes) / 1e3
    once = [[1.0, total.cold, total.cold * len(total.terms), float(total.ports)] for total in sums]
    return np.hstack([np.array(once), distant])


def huber(errors: Floats) -> Floats:
    """Weights in (0, 1] of relative errors: 1 up to twice their typical size, falling beyond (Huber 1964)."""
    typical = 1.4826 * float(np.median(np.abs(errors)))
    return np.minimum(1.0, 2 * max(typical, _FINEST) / np.maximum(np.abs(errors), 1e-12))


def _solve(table: Floats, latency_us: Floats, prior: Floats | None, caches: int, weights: Floats) -> Floats:
    """Non-negative costs; `prior` holds those that are assumed where the measurements do not decide.

    The last `caches` columns, data from afar, lean on what memory is like: samples that touch little of it would
    otherwise promise anything to a network that touches much.
    """
    root = np.sqrt(weights)
    rows = table * (root / latency_us)[:, None]
    size = np.sqrt((rows**2).sum(0))
    size[size == 0] = 1.0
    if prior is None:
        lean, towards = 1e-3 * np.eye(len(size)), np.zeros(len(size))
    else:
        lean = np.diag(np.where(rows.max(0) > 0, leaning(rows) / size, 1.0))
        towards = np.diag(lean) * size * prior
    afar = np.eye(len(size))[len(size) - caches :] * AFAR
    usual = np.full(caches, _AFAR_US * _NOISE / _AFAR_DOUBT_US)
    found, _ = nnls(np.vstack([rows / size, lean, afar / size]), np.concatenate([root, towards, usual]))
    return found / size


def leaning(rows: Floats) -> Floats:
    """(costs,) how firmly each cost is held to what is assumed: as one measurement of a share `_LEAN` would."""
    return _LEAN * rows.max(0)


def _rows(costs: Floats) -> list[tuple[float, ...]]:
    return [tuple(row) for row in costs.reshape(-1, COLUMNS).tolist()]
