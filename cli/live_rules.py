"""What a runtime joins and leaves out, asked once per calibration and kept beside its measurements."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.errors import LanefitError
from ..common.files import read_json, write_json
from .output import Output
from .tables import table

if TYPE_CHECKING:
    from ..estimator.live.rules import DeviceRules
    from ..estimator.live.sessions import LiveRunner

_WORDS = {True: "yes", False: "no", None: "open"}


def device_rules(output: Output, runner: LiveRunner, path: Path, seed: int) -> DeviceRules:
    """The verdicts in `path` if they are of this device and toolchain; otherwise the runtime is asked now."""
    from ..estimator.live.rules import find_rules

    known = _stored(path, runner)
    if known is not None:
        return known
    output.note("asking the runtime what it executes in one pass; this takes a minute or more")
    found = find_rules(runner, seed=seed)
    write_json(path, found.as_dict())
    return found


def rules_table(rules: DeviceRules) -> Any:
    """Answers about dead operators, and about what runs in one pass."""
    from ..estimator.opgraph.semantics_probes import QUESTIONS

    rows: list[tuple[str, str]] = [
        (QUESTIONS[name].meaning, _WORDS[answer.holds]) for name, answer in rules.semantics.answers.items()
    ]
    rows += [(f"{' + '.join(map(str, v.rule))} take the time of one pass", _WORDS[v.holds]) for v in rules.verdicts]
    use = "for comparison: the runtime shows its graph" if rules.graph_is_known else "predictions follow them"
    return table(("asked by probes", "answer"), rows, title=f"rules ({use})")


def _stored(path: Path, runner: LiveRunner) -> DeviceRules | None:
    """None where there is no whole file of this device; a damaged one is asked for anew."""
    from ..estimator.live.rules import rules_from_dict

    if not path.exists():
        return None
    try:
        value = read_json(path)
        found = rules_from_dict(value if isinstance(value, dict) else {})
    except LanefitError:
        return None
    return found if (found.device, found.toolchain) == (runner.device, runner.toolchain) else None
