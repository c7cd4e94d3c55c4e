"""What a runtime does with dead operators and which it joins, asked of the device itself by timed probes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ...common.errors import EstimatorError
from ..opgraph.fusion import FusionRules
from ..opgraph.fusion_probes import (
    COMMON_PAIRS,
    COMMON_TRIPLES,
    PROBE_SHAPES,
    FusionVerdict,
    find_fusion_rules,
    probe_networks,
)
from ..opgraph.graph import OperatorGraph
from ..opgraph.onnx_writer import to_model
from ..opgraph.semantics_probes import QUESTIONS, SemanticsVerdict, find_semantics
from ..opgraph.sequential import Answer, Plan, Prepare, Sampler
from .sessions import LiveRunner

_WARM_UPS, _RUNS = 3, 5  # a sample is the fastest of a few runs: interruptions only ever add


@dataclass(frozen=True, slots=True)
class DeviceRules:
    """Verdicts of one device with one toolchain.

    graph_is_known: the runtime shows the graph that it executes, so that predictions need no verdict; where it does
    not, they use `fusion` and `semantics`.
    """

    device: str
    toolchain: str
    semantics: SemanticsVerdict
    fusion: FusionRules
    verdicts: tuple[FusionVerdict, ...]
    graph_is_known: bool = False

    def as_dict(self) -> dict[str, Any]:
        """JSON form: the rules that hold, and every answer with its interval."""
        return {
            "device": self.device,
            "toolchain": self.toolchain,
            "graph_is_known": self.graph_is_known,
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
    return DeviceRules(runner.device, runner.toolchain, semantics, fusion, verdicts, runner.graph_is_known)


def joined_in_graph(runner: LiveRunner, rule: tuple[str, ...]) -> bool:
    """Whether the graph that the runtime executes shows `rule`: its later parts are no operators of their own.

    A rule that a probe finds by time must show there too; the reverse need not hold, since joining what costs next to
    nothing saves nothing.
    """
    networks = probe_networks(rule, PROBE_SHAPES[0])
    together, alone = (len(runner.executed(to_model(networks[name])).nodes) for name in ("ab", "a"))
    return together == alone


def rules_from_dict(value: Mapping[str, Any]) -> DeviceRules:
    """The inverse of `DeviceRules.as_dict`; anything else raises `EstimatorError`."""
    try:
        semantics = {
            str(name): _answer_of(a, "mean", "half_width") for name, a in value["semantics"]["answers"].items()
        }
        verdicts = tuple(
            FusionVerdict(
                tuple(map(str, v["rule"])), tuple(_answer_of(a, "mean_us", "half_width_us") for a in v["answers"])
            )
            for v in value["verdicts"]
        )
        if set(semantics) != set(QUESTIONS):
            raise EstimatorError("answers to other questions than are asked", hint="probe the device again")
        return DeviceRules(
            str(value["device"]), str(value["toolchain"]), SemanticsVerdict(semantics),
            FusionRules.from_dict(value["fusion"]), verdicts, value["graph_is_known"] is True,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EstimatorError(f"malformed verdicts: {error}", hint="probe the device again") from error


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


def _answer_of(value: Mapping[str, Any], mean: str, half_width: str) -> Answer:
    holds = value["holds"]
    if holds not in (True, False, None):
        raise ValueError(f"{holds!r} is no answer")
    return Answer(holds, float(value[mean]), float(value[half_width]), int(value["rounds"]))


def _answer(answer: Answer) -> dict[str, Any]:
    return {
        "holds": answer.holds, "mean_us": answer.mean, "half_width_us": answer.half_width, "rounds": answer.rounds,
    }  # fmt: skip
