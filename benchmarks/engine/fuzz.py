"""Feeds damaged programs and packages to lanefit: typed errors only, no crash, no hang, no access out of bounds.

Input number i depends on i and the seed alone, so `--only i` repeats it, whatever the number of workers.
An input that takes more than a second of processor time counts as a hang, an access is judged by a memory
that looks at what was touched, and a warning of NumPy counts as a crash.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
from fuzzing.campaign import make, run, run_range
from fuzzing.judge import OUTCOMES

from common import finish, parser


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--count", type=int, default=100_000, help="inputs to judge (default: %(default)s)")
    options.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
    options.add_argument("--hang-seconds", type=float, default=1.0, help="processor time that is a hang")
    options.add_argument("--only", type=int, metavar="I", help="judge input number I alone")
    options.add_argument("--save", type=Path, metavar="DIR", help="write the inputs that failed, or that of --only")
    args = options.parse_args()
    start = time.perf_counter()
    if args.only is not None:
        total = run_range((args.only, args.only + 1), seed=args.seed, seconds=args.hang_seconds)
    else:
        total = run(args.count, args.seed, args.workers, args.hang_seconds)
    seconds = time.perf_counter() - start
    figures = {**total.as_dict(), "seconds": seconds, "inputs_per_second": total.outcomes.total() / seconds}
    _report(figures)
    if args.save is not None:
        _save(args.save, [args.only] if args.only is not None else [f["index"] for f in total.failures], args.seed)
    finish(args.json, figures, seed=args.seed)
    return 1 if figures["failures"] else 0


def _report(figures: dict) -> None:
    for name in ("inputs", *OUTCOMES):
        print(f"{name:15}{figures[name]:>12,}")
    print(f"{'per second':15}{figures['inputs_per_second']:>12,.0f}")
    for stage, count in figures["stages"].items():
        print(f"    {stage:38}{count:>10,}")
    for failure in figures["failures"][:20]:
        print(f"{failure['outcome']} at input {failure['index']}: {failure['detail']}")


def _save(folder: Path, indices: list[int], seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index in indices:
        data, is_package, _ = make(index, seed)
        (folder / f"{seed}-{index}.{'lanefit' if is_package else 'bin'}").write_bytes(data)


if __name__ == "__main__":
    sys.exit(main())
