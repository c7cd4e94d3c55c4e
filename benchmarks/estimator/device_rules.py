"""Asks a runtime on this host what it does with dead operators and which operators it executes in one pass.

Probes are tiny networks, timed in turn until each answer stands out of the noise; "open" where it never did. On a
loaded host many answers stay open: nothing is guessed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lanefit.estimator.live.ort_runner import OrtRunner
from lanefit.estimator.live.rules import DeviceRules, find_rules
from lanefit.estimator.live.tvm_runner import TvmRunner
from lanefit.estimator.opgraph.semantics_probes import QUESTIONS

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import finish, parser


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--runtime", choices=("onnxruntime", "tvm"), default="onnxruntime", help="what to ask")
    options.add_argument("--threads", type=int, default=1, help="processors that the runtime uses (default: 1)")
    options.add_argument("--level", default="all", help="ONNX Runtime's: none, basic, extended or all")
    args = options.parse_args()
    runner = TvmRunner(args.threads) if args.runtime == "tvm" else OrtRunner(args.threads, level=args.level)
    found = find_rules(runner, seed=args.seed)
    show(found)
    finish(args.json, found.as_dict(), seed=args.seed)
    return 0


def show(found: DeviceRules) -> None:
    print(f"{found.device}\n{found.toolchain}\n\nsemantics of dead operators: {found.semantics.semantics or 'open'}")
    for name, answer in found.semantics.answers.items():
        print(f"  {word(answer.holds):5} {QUESTIONS[name].meaning} ({answer.rounds} rounds)")
    print("\none pass:")
    for verdict in found.verdicts:
        rounds = sum(answer.rounds for answer in verdict.answers)
        print(f"  {word(verdict.holds):5} {' → '.join(map(str, verdict.rule))} ({rounds} rounds)")


def word(holds: bool | None) -> str:
    return {True: "yes", False: "no", None: "open"}[holds]


if __name__ == "__main__":
    raise SystemExit(main())
