"""Probing a runner gives the rules of the runtime behind it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from estimator.live.synthetic import SyntheticRunner
from onnx import ModelProto
from synthetic_device import SyntheticDevice

from lanefit.estimator.live.rules import find_rules
from lanefit.estimator.live.sessions import Session
from lanefit.estimator.opgraph.fusion import FusionRules
from lanefit.estimator.opgraph.onnx_reader import operator_graph
from lanefit.estimator.opgraph.semantics import Semantics
from lanefit.estimator.opgraph.sequential import Sampler

PAIRS = [("conv", "relu"), ("add", "relu")]


@dataclass
class KnownSession:
    sampler: Sampler

    def run(self) -> float:
        return self.sampler()

    def pause(self) -> None: ...

    def close(self) -> None: ...


@dataclass
class KnownRunner(SyntheticRunner):
    """The synthetic runner in front of a device whose rules are known."""

    rules: SyntheticDevice = field(default_factory=SyntheticDevice)

    def prepare(self, model: ModelProto, *, sweep_bytes: int = 0) -> Session:  # type: ignore[override]
        self.prepared += 1
        return KnownSession(self.rules.prepare(operator_graph(model)))


def test_a_runtime_tells_its_semantics_and_its_fusion_by_timing_alone() -> None:
    rules = FusionRules.of([("conv", "relu")])
    runner = KnownRunner(rules=SyntheticDevice(rules=rules, semantics=Semantics.BACKWARD, seed=2))
    found = find_rules(runner, pairs=PAIRS, triples=[])
    assert found.semantics.semantics == Semantics.BACKWARD
    assert found.fusion == rules
    assert [verdict.holds for verdict in found.verdicts] == [True, False]
    assert (found.device, found.toolchain) == ("synthetic", "synthetic 1")


def test_equal_probes_are_compiled_once_and_the_record_is_json() -> None:
    runner = KnownRunner()
    found = find_rules(runner, pairs=PAIRS, triples=[])
    networks = 11 + 2 * 3 * 4
    assert runner.prepared < networks
    document = json.loads(json.dumps(found.as_dict()))
    assert FusionRules.from_dict(document["fusion"]) == found.fusion
    assert document["semantics"]["semantics"] == "nominal"
    assert len(document["verdicts"]) == 2
