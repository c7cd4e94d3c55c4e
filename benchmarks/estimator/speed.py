"""How fast estimates are, and how much memory very many of them take. Everything on one core, in fresh processes.

warm_per_second            architectures never seen before, from knob values to screened latency, once others were;
                           batches of search trials ask for these (`ModelWorkbench.screen_many`)
exact_warm_per_second      the same by the exact estimator, which plans every network as the compiler does; every
                           candidate that a search scores or trains is judged by it
cold_ms                    the first exact estimate of a process that has just loaded the estimator
cold_screened_ms           the first screened one
peak_memory_bytes          resident memory at its highest, libraries included, over `--predictions` screened networks
predictions_per_second     over these, drawing them included
screening                  screened against exact latency on networks that neither was fitted on
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine_accuracy import CLASSES, FIT, INPUT_CHANNELS, TEST, WARM_UP, architectures, graph

from lanefit.estimator.fit import fit_engine
from lanefit.estimator.metrics import accuracy
from lanefit.estimator.network import NetworkEstimator
from lanefit.estimator.screening import ScreeningEstimator
from lanefit.models.architecture import Architecture
from lanefit.nas.pieces import architecture_pieces
from lanefit.targets.spec import load_spec

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import finish, parser

_FITTED, _JUDGED, _WARM = 100, 300, 3000
_PARTS = ("cold", "cold-screened", "warm", "memory")


def screening(exact: NetworkEstimator, seed: int) -> ScreeningEstimator:
    known = architectures(_FITTED, seed, FIT)
    return ScreeningEstimator.fit(exact, list(map(pieces, known)), list(map(graph, known)))


def pieces(architecture: Architecture) -> Any:
    return architecture_pieces(architecture, input_channels=INPUT_CHANNELS, classes=CLASSES)


def rate(estimate: Callable[[Architecture], object], found: list[Architecture]) -> float:
    begin = time.perf_counter()
    for architecture in found:
        estimate(architecture)
    return len(found) / (time.perf_counter() - begin)


def cold(exact: NetworkEstimator, seed: int, _: int) -> dict[str, float]:
    (first,) = architectures(1, seed, TEST)
    begin = time.perf_counter()
    exact.estimate(graph(first))
    return {"cold_ms": (time.perf_counter() - begin) * 1e3}


def cold_screened(exact: NetworkEstimator, seed: int, _: int) -> dict[str, float]:
    (first,) = architectures(1, seed, TEST)
    screen = ScreeningEstimator(exact)
    begin = time.perf_counter()
    screen.estimate(pieces(first))
    return {"cold_screened_ms": (time.perf_counter() - begin) * 1e3}


def warm(exact: NetworkEstimator, seed: int, _: int) -> dict[str, Any]:
    screen, unseen = screening(exact, seed), architectures(2 * _JUDGED, seed, TEST)
    rate(lambda a: screen.estimate(pieces(a)), architectures(_WARM, seed, WARM_UP))
    rate(lambda a: exact.estimate(graph(a)), architectures(_JUDGED, seed, WARM_UP))
    fast = rate(lambda a: screen.estimate(pieces(a)), unseen)
    judged = [(screen.estimate(pieces(a)).latency_us, a) for a in unseen[:_JUDGED]]
    found = accuracy(
        [latency for latency, _ in judged if latency is not None],
        [exact.estimate(graph(a)).latency_us for latency, a in judged if latency is not None],
    )
    exact_rate = rate(lambda a: exact.estimate(graph(a)), unseen[_JUDGED:])
    return {"warm_per_second": fast, "exact_warm_per_second": exact_rate, "screening": found.as_dict()}


def memory(exact: NetworkEstimator, seed: int, predictions: int) -> dict[str, float]:
    screen, done = screening(exact, seed), 0
    begin = time.perf_counter()
    for part in range(0, predictions, 2000):
        for architecture in architectures(min(2000, predictions - part), seed, 10 + part):
            screen.estimate(pieces(architecture))
            done += 1
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"peak_memory_bytes": peak, "predictions": done, "predictions_per_second": done / seconds}


def part(name: str, path: Path, options: list[str]) -> dict[str, Any]:
    """One measurement in a process of its own, on one core."""
    run = subprocess.run(
        [sys.executable, __file__, *options, "--part", name, "--estimator", str(path)],
        check=True,
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return json.loads(run.stdout)


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--target", default="ne-256", help="preset or TOML file (default: %(default)s)")
    options.add_argument("--predictions", type=int, default=100_000, help="for the memory (default: %(default)s)")
    options.add_argument("--part", choices=_PARTS, help="this measurement alone, as JSON (needs --estimator)")
    options.add_argument("--estimator", type=Path, help="file of a fitted estimator (default: fit one)")
    args = options.parse_args()
    if args.part:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        measures = {"cold": cold, "cold-screened": cold_screened, "warm": warm, "memory": memory}
        exact = NetworkEstimator.load(args.estimator)
        print(json.dumps(measures[args.part](exact, args.seed, args.predictions)))
        return 0
    given = ["--seed", str(args.seed), "--target", args.target, "--predictions", str(args.predictions)]
    figures: dict[str, Any] = {"target": args.target}
    with tempfile.TemporaryDirectory() as folder:
        path = args.estimator or Path(folder) / "estimator.json"
        if not args.estimator:
            fit_engine(load_spec(args.target), map(graph, architectures(200, args.seed, FIT)), seed=args.seed).save(
                path
            )
        for name in _PARTS:
            figures |= part(name, path, given)
    for name, value in figures.items():
        print(f"  {name:24} {value}")
    finish(args.json, figures, seed=args.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
