"""The emulated engine against the TOSA reference model, bit for bit, on random operators and graphs.

Half of the cases are single operators, every kind equally often, half are graphs of several with branches,
residuals and fused bottlenecks. Each is compiled for a random preset, mostly with an SRAM so small that maps
are tiled and spilled, encoded, decoded, and executed with a random interleaving of the units; the same graph
goes through `lanefit.export.tosa` to Arm's reference model, which shares nothing with lanefit. Needs tosa-tools.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lanefit.common.errors import ProgramFault, ToolchainError
from lanefit.export.equality import GRAPH, Case, compare, random_case, suspects
from lanefit.export.random_operators import OPERATORS
from lanefit.targets.spec import load_spec, preset_names

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import finish, parser


@dataclass(slots=True)
class Tally:
    """Counts over all cases; by operator where a case holds several."""

    elements: int = 0
    different: int = 0
    refused: int = 0
    operators: Counter[str] = field(default_factory=Counter)
    blamed: Counter[str] = field(default_factory=Counter)
    kernels: Counter[str] = field(default_factory=Counter)

    def add(self, number: int, case: Case) -> None:
        self.refused += case.refused
        self.operators.update(case.operators)
        self.kernels.update(case.kernels)
        try:
            elements, wrong = compare(case, seed=number)
        except (ProgramFault, ToolchainError) as error:
            self._fail(number, case, str(error), case.operators)
            return
        self.elements += elements
        if wrong:
            self._fail(number, case, f"{wrong} of {elements} elements differ", suspects(case))

    def _fail(self, number: int, case: Case, reason: str, operators: tuple[str, ...]) -> None:
        print(f"case {number}, {case.kind} on {case.program.spec.name}: {reason}", file=sys.stderr)
        self.different += 1
        self.blamed.update(set(operators))

    def by_operator(self) -> dict[str, dict[str, int]]:
        return {name: {"compared": n, "different": self.blamed[name]} for name, n in sorted(self.operators.items())}


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
    for name, found in tally.by_operator().items():
        print(f"{name:24} compared {found['compared']:7}  different {found['different']:5}")
    print(f"compared {args.count} cases, {tally.elements} elements, in {seconds:.0f} s; different: {tally.different}")
    figures = {
        "compared": args.count,
        "different": tally.different,
        "elements": tally.elements,
        "refused_draws": tally.refused,
        "seconds": seconds,
        "by_kernel": dict(sorted(tally.kernels.items())),
        "by_operator": tally.by_operator(),
    }
    finish(args.json, figures, seed=args.seed)
    return 1 if tally.different else 0


if __name__ == "__main__":
    sys.exit(main())
