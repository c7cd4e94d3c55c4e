"""A device whose rules are known: roofline per pass, a launch for each, an overhead per call, noise on top."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lanefit.estimator.opgraph.fusion import NO_FUSION, FusionRules, fuse
from lanefit.estimator.opgraph.graph import OperatorGraph
from lanefit.estimator.opgraph.operator import Kind, Operator
from lanefit.estimator.opgraph.rewrite import merge_equal, without_unused
from lanefit.estimator.opgraph.semantics import Semantics, apply_semantics
from lanefit.estimator.opgraph.sequential import Sampler


class SyntheticDevice:
    """`prepare` is what probes ask for; `samples` counts the runs."""

    def __init__(
        self,
        *,
        rules: FusionRules = NO_FUSION,
        semantics: Semantics = Semantics.NOMINAL,
        merges_equal: bool = False,
        noise: float = 0.03,
        spike_rate: float = 0.03,
        seed: int = 0,
    ) -> None:
        self._rules, self._semantics, self._merges_equal = rules, semantics, merges_equal
        self._noise, self._spike_rate = noise, spike_rate
        self._generator = np.random.default_rng(seed)
        self.samples = 0

    def prepare(self, graph: OperatorGraph) -> Sampler:
        exact = self.latency_us(graph)

        def sample() -> float:
            self.samples += 1
            spike = 1 + 2 * self._generator.random() if self._generator.random() < self._spike_rate else 1.0
            return exact * spike * (1 + self._noise * abs(self._generator.standard_normal()))

        return sample

    def latency_us(self, graph: OperatorGraph) -> float:
        steps: list[Callable[[OperatorGraph], OperatorGraph]] = [
            without_unused,
            merge_equal if self._merges_equal else lambda g: g,
            lambda g: apply_semantics(g, self._semantics),
            lambda g: fuse(g, self._rules),
        ]
        for step in steps:
            graph = step(graph)
        return 15.0 + sum(_pass_us(operator) for operator in graph.operators)


def _pass_us(operator: Operator) -> float:
    if operator.kind in (Kind.COPY, Kind.RESHAPE):
        return 0.0
    moved = operator.input_bytes + operator.output_bytes + operator.weight_bytes
    return 2.0 + max(operator.macs / 20e3, moved / 8e3, operator.elementary_steps / 10e3)
