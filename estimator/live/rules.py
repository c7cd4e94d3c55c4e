"""What a runtime does with dead operators and which it joins, asked of the device itself by timed probes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..opgraph.fusion import FusionRules
from ..opgraph.fusion_probes import COMMON_PAIRS, COMMON_TRIPLES, FusionVerdict, find_fusion_rules
from ..opgraph.graph import OperatorGraph
from ..opgraph.onnx_writer import to_model
from ..opgraph.semantics_probes import SemanticsVerdict, find_semantics
from ..opgraph.sequential import Answer, Plan, Prepare, Sampler
from .sessions import LiveRunner

_WARM_UPS, _RUNS = 3, 5  # a sample is the fastest of a few runs: interruptions only ever add


@dataclass(frozen=True, slots=True)
class DeviceRules:
    """Verdicts of one device with one toolchain."""

    device: str
    toolchain: str
    semantics: SemanticsVerdict
    fusion: FusionRules
    verdicts: tuple[FusionVerdict, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON form: the rules that hold, and every answer with its interval."""
        return {
            "device": self.device,
            "toolchain": self.toolchain,
            "semantics": self.semantics.as_dict(),
            "fusion": self.fusion.as_dict(),
            "verdicts": [
                {"rule": list(map(str, v.rule)), "holds": v.holds, "answers": [_answer(a) for a in v.answers]}
                for v in self.verdicts
            ],
        }


def find_rules(
    runner: LiveRunner,
    *,
    pairs: Iterable[tuple[str, str]] = COMMON_PAIRS,
    triples: Iterable[tuple[str, str, str]] = COMMON_TRIPLES,
    plan: Plan | None = None,
    seed: int = 0,
) -> DeviceRules:
    """Runs all probes on the runner's device: a minute or so where networks load at once.

    Raises:
        ToolchainError: the runtime refuses a probe.
    """
    prepare = probes_on(runner)
    with runner.ready():
        semantics = find_semantics(prepare, plan=plan, seed=seed)
        fusion, verdicts = find_fusion_rules(prepare, pairs=pairs, triples=triples, plan=plan, seed=seed)
    return DeviceRules(runner.device, runner.toolchain, semantics, fusion, verdicts)


def probes_on(runner: LiveRunner) -> Prepare:
    """Compiles probes as the runtime compiles whole networks; equal ones once."""
    known: dict[str, Sampler] = {}

    def prepare(graph: OperatorGraph) -> Sampler:
        key = graph.digest()
        if key not in known:
            known[key] = _sampler(runner, graph)
        return known[key]

    return prepare


def _sampler(runner: LiveRunner, graph: OperatorGraph) -> Sampler:
    session = runner.prepare(runner.executed(to_model(graph)).model)
    for _ in range(_WARM_UPS):
        session.run()
    return lambda: min(session.run() for _ in range(_RUNS))


def _answer(answer: Answer) -> dict[str, Any]:
    return {
        "holds": answer.holds, "mean_us": answer.mean, "half_width_us": answer.half_width, "rounds": answer.rounds,
    }  # fmt: skip
