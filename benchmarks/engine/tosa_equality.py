"""The emulated engine against the TOSA reference model, bit for bit, on random operators and graphs.

Half of the cases are single operators, every kind equally often, half are graphs of several with branches,
residuals and fused bottlenecks. Each is compiled for a random preset, mostly with an SRAM so small that maps
are tiled and spilled, encoded, decoded, and executed with a random interleaving of the units; the same graph
goes through `lanefit.export.tosa` to Arm's reference model, which shares nothing with lanefit. Needs tosa-tools.
Single operators are also shown to ONNX Runtime as QDQ models, with a tolerance of one step of the output's scale.
"""

from __future__ import annotations

import sys
import time
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from lanefit.common.errors import ProgramFault, ToolchainError
from lanefit.export.equality import GRAPH, Case, Comparison, compare, random_case, suspects
from lanefit.export.qdq import TOLERANCE_LSB
from lanefit.export.random_operators import OPERATORS
from lanefit.targets.spec import load_spec, preset_names

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import finish, parser


@dataclass(slots=True)
class OperatorTally:
    """`compared` counts the operator's occurrences; the ONNX Runtime figures are of cases with this operator alone."""

    compared: int = 0
    different: int = 0
    onnxruntime_elements: int = 0
    onnxruntime_rounded_otherwise: int = 0
    onnxruntime_largest_step: int = 0


@dataclass(slots=True)
class Tally:
    """Counts over all cases, and by operator and kernel, of which a case may hold several."""

    elements: int = 0
    different: int = 0
    refused: int = 0
    beyond_tolerance: int = 0
    operators: defaultdict[str, OperatorTally] = field(default_factory=lambda: defaultdict(OperatorTally))
    kernels: Counter[str] = field(default_factory=Counter)

    def add(self, number: int, case: Case) -> None:
        self.refused += case.refused
        self.kernels.update(case.kernels)
        for name in case.operators:
            self.operators[name].compared += 1
        try:
            found = compare(case, seed=number)
        except (ProgramFault, ToolchainError) as error:
            self._fail(number, case, str(error), case.operators)
            return
        self.elements += found.elements
        if found.different:
            self._fail(number, case, f"{found.different} of {found.elements} elements differ", suspects(case))
        if found.steps is not None:
            self._second_opinion(self.operators[case.operators[0]], found, found.steps)

    def _fail(self, number: int, case: Case, reason: str, operators: tuple[str, ...]) -> None:
        print(f"case {number}, {case.kind} on {case.program.spec.name}: {reason}", file=sys.stderr)
        self.different += 1
        for name in set(operators):
            self.operators[name].different += 1

    def _second_opinion(self, operator: OperatorTally, found: Comparison, steps: int) -> None:
        self.beyond_tolerance += steps > TOLERANCE_LSB
        operator.onnxruntime_elements += found.elements
        operator.onnxruntime_rounded_otherwise += found.rounded_otherwise
        operator.onnxruntime_largest_step = max(operator.onnxruntime_largest_step, steps)

    def figures(self) -> dict[str, object]:
        return {
            "different": self.different,
            "elements": self.elements,
            "refused_draws": self.refused,
            "onnxruntime_tolerance_steps": TOLERANCE_LSB,
            "onnxruntime_beyond_tolerance": self.beyond_tolerance,
            "by_operator": {name: asdict(found) for name, found in sorted(self.operators.items())},
            "by_kernel": dict(sorted(self.kernels.items())),
        }


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--count", type=int, default=1000, help="cases to compare (default: %(default)s)")
    args = options.parse_args()
    presets = [load_spec(name) for name in preset_names()]
    single = list(OPERATORS)
    tally = Tally()
    began = time.monotonic()
    for number, seed in enumerate(np.random.SeedSequence(args.seed).spawn(args.count)):
        kind = GRAPH if number % 2 else single[number // 2 % len(single)]
        tally.add(number, random_case(np.random.default_rng(seed), kind, presets))
    seconds = time.monotonic() - began
    print(f"{'operator':24} {'compared':>8} {'different':>9}   ONNX Runtime: off by one, largest step")
    for name, found in sorted(tally.operators.items()):
        share = found.onnxruntime_rounded_otherwise / max(1, found.onnxruntime_elements)
        largest = f"{share:>20.1e} {found.onnxruntime_largest_step:>15}" if found.onnxruntime_elements else ""
        print(f"{name:24} {found.compared:>8} {found.different:>9}   {largest}")
    print(f"compared {args.count} cases, {tally.elements} elements, in {seconds:.0f} s; different: {tally.different}")
    finish(args.json, {"compared": args.count, "seconds": seconds, **tally.figures()}, seed=args.seed)
    return 1 if tally.different or tally.beyond_tolerance else 0


if __name__ == "__main__":
    sys.exit(main())
