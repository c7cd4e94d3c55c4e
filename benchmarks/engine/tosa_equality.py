"""The emulated engine against the TOSA reference model, bit for bit, on random operators and graphs.

Half of the cases are single operators, every kind equally often, half are graphs of several with branches,
residuals and fused bottlenecks. Each is compiled for a random preset, mostly with an SRAM so small that maps
are tiled and spilled, encoded, decoded, and executed with a random interleaving of the units; the same graph
goes through `lanefit.export.tosa` to Arm's reference model, which shares nothing with lanefit. Needs tosa-tools.

Operators that no sequence of TOSA operators can express are compared with our own integer reference instead, in
cases on top of N (`beyond_tosa`). Single operators are also shown to ONNX Runtime as QDQ models, with a tolerance
of one step of the output's scale (softmax: and what 15 fraction bits cannot say). bf16 operators are held to
float64 within a bound that follows from the number of roundings (`lanefit.export.float_bounds`).
"""

from __future__ import annotations

import sys
import time
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from lanefit.common.errors import ProgramFault, ToolchainError
from lanefit.export.equality import GRAPH, Case, Comparison, compare, operator_name, random_case, suspects
from lanefit.export.random_bf16 import BF16_KINDS, random_bf16_cases
from lanefit.export.random_operators import BEYOND_TOSA, OPERATORS
from lanefit.export.tosa import has_tosa_form
from lanefit.targets.spec import EngineSpec, load_spec, preset_names

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import finish, parser


@dataclass(slots=True)
class OperatorTally:
    """`compared` counts the operator's occurrences; the ONNX Runtime figures are of cases with this operator alone."""

    oracle: str = "TOSA"
    compared: int = 0
    different: int = 0
    onnxruntime_elements: int = 0
    onnxruntime_rounded_otherwise: int = 0
    onnxruntime_largest_step: int = 0


@dataclass(slots=True)
class Tally:
    """Counts over all cases, and by operator and kernel, of which a case may hold several."""

    compared: int = 0
    different: int = 0
    elements: int = 0
    beyond_tosa: int = 0
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
            self.compared += has_tosa_form(case.graph)
            self._fail(number, case, str(error), case.operators)
            return
        self.compared += not found.beyond_tosa
        self.beyond_tosa += found.beyond_tosa
        self.elements += found.elements
        if found.different:
            self._fail(number, case, f"{found.different} of {found.elements} elements differ", suspects(case))
        if found.beyond_tosa:
            self.operators[case.operators[0]].oracle = "integer reference"
        if found.steps is not None:
            self._second_opinion(number, case, found, found.steps)

    def _fail(self, number: int, case: Case, reason: str, operators: tuple[str, ...]) -> None:
        print(f"case {number}, {case.kind} on {case.program.spec.name}: {reason}", file=sys.stderr)
        self.different += 1
        for name in set(operators):
            self.operators[name].different += 1

    def _second_opinion(self, number: int, case: Case, found: Comparison, steps: int) -> None:
        operator = self.operators[case.operators[0]]
        operator.onnxruntime_elements += found.elements
        operator.onnxruntime_rounded_otherwise += found.otherwise
        operator.onnxruntime_largest_step = max(operator.onnxruntime_largest_step, steps)
        if steps > found.tolerated:
            self.beyond_tolerance += 1
            print(
                f"case {number}, {case.kind}: {steps} steps from ONNX Runtime, not {found.tolerated}", file=sys.stderr
            )

    def figures(self) -> dict[str, object]:
        return {
            "compared": self.compared,
            "different": self.different,
            "beyond_tosa": self.beyond_tosa,
            "elements": self.elements,
            "refused_draws": self.refused,
            "onnxruntime_beyond_tolerance": self.beyond_tolerance,
            "by_operator": {name: asdict(found) for name, found in sorted(self.operators.items())},
            "by_kernel": dict(sorted(self.kernels.items())),
        }


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--count", type=int, default=1000, help="cases to compare (default: %(default)s)")
    args = options.parse_args()
    presets = [load_spec(name) for name in preset_names()]
    tally = Tally()
    began = time.monotonic()
    kinds = _kinds(args.count)
    for number, (kind, seed) in enumerate(zip(kinds, np.random.SeedSequence(args.seed).spawn(len(kinds)), strict=True)):
        tally.add(number, random_case(np.random.default_rng(seed), kind, presets))
    bounds = _bf16(args.count, args.seed, presets)
    seconds = time.monotonic() - began
    print(f"{'operator':24} {'compared':>8} {'different':>9}   ONNX Runtime: off by one, largest step")
    for name, found in sorted(tally.operators.items()):
        share = found.onnxruntime_rounded_otherwise / max(1, found.onnxruntime_elements)
        largest = f"{share:>20.1e} {found.onnxruntime_largest_step:>15}" if found.onnxruntime_elements else ""
        print(f"{name:24} {found.compared:>8} {found.different:>9}   {largest}")
    print(
        f"compared {tally.compared} cases with TOSA, {tally.beyond_tosa} with the integer reference, {tally.elements} "
        f"elements, in {seconds:.0f} s; different: {tally.different}, beyond tolerance: {tally.beyond_tolerance}"
    )
    for name, found in bounds.items():
        print(f"{name:24} {found['compared']:>8} cases, largest error {found['largest_share']:.3f} of its bound")
    finish(args.json, {"seconds": seconds, **tally.figures(), "bf16": bounds}, seed=args.seed)
    broken = any(found["largest_share"] > 1 for found in bounds.values())
    return 1 if tally.different or tally.beyond_tolerance or broken else 0


def _bf16(count: int, seed: int, presets: list[EngineSpec]) -> dict[str, dict[str, float]]:
    """By operator: cases, and the largest error as a share of the bound; a tenth of `count` draws."""
    found: defaultdict[str, dict[str, float]] = defaultdict(lambda: {"compared": 0, "largest_share": 0.0})
    for number, stream in enumerate(np.random.SeedSequence((seed, 16)).spawn(-(-count // 10))):
        kind = BF16_KINDS[number % len(BF16_KINDS)]
        for case in random_bf16_cases(np.random.default_rng(stream), kind, presets):
            own = found[operator_name(case.node)]
            own["compared"] += 1
            own["largest_share"] = max(own["largest_share"], case.share_of_bound())
    return dict(sorted(found.items()))


def _kinds(count: int) -> list[str]:
    """Graphs and single operators in turn, then those beyond TOSA as often as any other single operator."""
    single = [kind for kind in OPERATORS if kind not in BEYOND_TOSA]
    kinds = [GRAPH if number % 2 else single[number // 2 % len(single)] for number in range(count)]
    return kinds + sorted(BEYOND_TOSA) * -(-count // 2 // len(single))


if __name__ == "__main__":
    sys.exit(main())
