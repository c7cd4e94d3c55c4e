"""Many graphs as matrices over a fixed vocabulary of operators and surroundings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ...common.errors import EstimatorError
from ..opgraph.operator import Operator
from .graph_arrays import LEVELS, GraphCounts

Array: TypeAlias = NDArray[np.float64]
Matrix: TypeAlias = Any
"""`scipy.sparse.csr_array`, whose stubs say too little."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What the columns of a table stand for.

    surroundings: by level, the labels of each column. Labels that occur equally often in every network share a
        column: stages of one width after another repeat what the first one says.
    """

    operators: tuple[Operator, ...]
    surroundings: tuple[tuple[tuple[int, ...], ...], ...]

    @classmethod
    def of(cls, graphs: Sequence[GraphCounts]) -> Vocabulary:
        """The vocabulary of networks that a model is fitted to."""
        operators = dict.fromkeys(operator for graph in graphs for operator in graph.operators)
        levels = tuple(_columns([graph.surroundings[level] for graph in graphs]) for level in range(LEVELS))
        return cls(tuple(operators), levels)

    def as_dict(self) -> dict[str, Any]:
        return {
            "operators": [operator.as_dict() for operator in self.operators],
            "surroundings": [[[f"{label:x}" for label in labels] for labels in level] for level in self.surroundings],
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Vocabulary:
        """The inverse of `as_dict`; a malformed value raises `EstimatorError`."""
        try:
            operators = tuple(Operator.from_dict(item) for item in value["operators"])
            levels = tuple(
                tuple(tuple(int(label, 16) for label in labels) for labels in level) for level in value["surroundings"]
            )
        except (KeyError, TypeError, ValueError) as error:
            raise EstimatorError(f"malformed vocabulary: {error!r}", hint="fit the estimator again") from error
        if len(levels) != LEVELS or len(set(operators)) != len(operators):
            raise EstimatorError("malformed vocabulary: levels or operators", hint="fit the estimator again")
        return cls(operators, levels)


@dataclass(frozen=True, slots=True)
class GraphTable:
    """Graphs (rows) over a vocabulary and whatever they have beyond it.

    operators: every operator of the table, those of the vocabulary first, in its order.
    counts: (rows, operators).
    surroundings: by level (rows, columns of the vocabulary), each column times the root of its number of labels.
    strange: by level (rows,), the squared counts of labels that the vocabulary lacks.
    """

    operators: tuple[Operator, ...]
    counts: Matrix
    surroundings: tuple[Matrix, ...]
    strange: tuple[Array, ...]

    def __len__(self) -> int:
        return int(self.counts.shape[0])

    def rows(self, chosen: NDArray[np.int64]) -> GraphTable:
        """The same columns for the rows `chosen`."""
        levels = tuple(level[chosen] for level in self.surroundings)
        return GraphTable(self.operators, self.counts[chosen], levels, tuple(level[chosen] for level in self.strange))


def graph_table(graphs: Sequence[GraphCounts], vocabulary: Vocabulary) -> GraphTable:
    """The matrices of `graphs`."""
    operators = dict.fromkeys((*vocabulary.operators, *(op for graph in graphs for op in graph.operators)))
    column = {operator: index for index, operator in enumerate(operators)}
    rows = [{column[op]: float(n) for op, n in graph.operators.items()} for graph in graphs]
    levels = [_level(graphs, level, columns) for level, columns in enumerate(vocabulary.surroundings)]
    return GraphTable(
        tuple(operators), _matrix(rows, len(operators)), tuple(m for m, _ in levels), tuple(s for _, s in levels)
    )  # fmt: skip


def _columns(graphs: Sequence[Mapping[int, int]]) -> tuple[tuple[int, ...], ...]:
    """Labels by how they occur in the graphs, in the order of first occurrence."""
    occurrences: dict[int, list[tuple[int, int]]] = {}
    for row, counts in enumerate(graphs):
        for label, count in counts.items():
            occurrences.setdefault(label, []).append((row, count))
    groups: dict[tuple[tuple[int, int], ...], list[int]] = {}
    for label, where in occurrences.items():
        groups.setdefault(tuple(where), []).append(label)
    return tuple(tuple(labels) for labels in groups.values())


def _level(
    graphs: Sequence[GraphCounts], level: int, columns: tuple[tuple[int, ...], ...]
) -> tuple[Matrix, Array]:  # fmt: skip
    """A column's value is the norm of its labels' counts, so that distances are those between the labels."""
    column = {label: index for index, labels in enumerate(columns) for label in labels}
    root = [float(np.sqrt(len(labels))) for labels in columns]
    rows, strange = list[dict[int, float]](), np.zeros(len(graphs))
    for number, graph in enumerate(graphs):
        row: dict[int, float] = {}
        for label, count in graph.surroundings[level].items():
            index = column.get(label)
            if index is None:
                strange[number] += count**2
            else:
                row[index] = row.get(index, 0.0) + count / root[index]
        rows.append(row)
    return _matrix(rows, len(columns)), strange


def _matrix(rows: Sequence[Mapping[int, float]], columns: int) -> Matrix:
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    indices = np.array([index for row in rows for index in row], np.int64)
    data = np.array([value for row in rows for value in row.values()], np.float64)
    return sparse.csr_array((data, indices, starts), shape=(len(rows), columns))
