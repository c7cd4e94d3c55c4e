"""Estimated latency against the cycle model of the whole compiled network, on random architectures unseen in the fit.

Fits on random architectures of family ibn-classifier, draws others from a separate stream of seeds, and compares
the estimate of each with its compiled program's cycles. `per_second_warm` counts architectures estimated one by one,
from knob values to estimate, none of them seen before, per second of wall time on one core; `per_second_warm_cpu` the
same per second of processor time.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from lanefit.estimator.fit import FitBudget, fit_engine
from lanefit.estimator.metrics import accuracy
from lanefit.estimator.runner import EngineRunner
from lanefit.export.graph import Graph
from lanefit.models.architecture import Architecture
from lanefit.models.registry import families
from lanefit.nas.bridge import to_graph
from lanefit.nas.space import Space
from lanefit.targets.spec import load_spec

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import finish, parser

FAMILY = "ibn-classifier"
INPUT_CHANNELS, CLASSES = 1, 10
FIT, TEST, WARM_UP = 0, 1, 2  # streams of architectures


def architectures(count: int, seed: int, stream: int) -> list[Architecture]:
    """Different random architectures; no two streams share a seed."""
    space = Space.of(families.get(FAMILY))
    drawn: dict[Architecture, None] = {}
    for value in np.random.SeedSequence((seed, stream)).generate_state(4 * count):
        drawn[space.sample(int(value))] = None
        if len(drawn) == count:
            break
    return list(drawn)


def graph(architecture: Architecture) -> Graph:
    layers = families.get(FAMILY).layers(architecture, input_channels=INPUT_CHANNELS, classes=CLASSES)
    return to_graph(layers)


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--target", default="ne-256", help="preset or TOML file (default: %(default)s)")
    options.add_argument("--architectures", type=int, default=300, help="to test on (default: %(default)s)")
    options.add_argument("--fit-architectures", type=int, default=200, help="to fit on (default: %(default)s)")
    options.add_argument(
        "--workloads", type=int, default=FitBudget().workloads, help="to measure (default: %(default)s)"
    )
    args = options.parse_args()
    spec = load_spec(args.target)

    begin = time.perf_counter()
    samples = [graph(architecture) for architecture in architectures(args.fit_architectures, args.seed, FIT)]
    estimator = fit_engine(spec, samples, seed=args.seed, budget=FitBudget(workloads=args.workloads))
    fit_seconds = time.perf_counter() - begin

    known = set(architectures(args.fit_architectures, args.seed, FIT))
    unseen = [a for a in architectures(2 * args.architectures, args.seed, TEST) if a not in known][: args.architectures]
    for architecture in architectures(20, args.seed, WARM_UP):
        estimator.estimate(graph(architecture))
    with threadpool_limits(1):
        begin, begin_cpu = time.perf_counter(), time.process_time()
        estimates = [estimator.estimate(graph(architecture)) for architecture in unseen]
        seconds, seconds_cpu = time.perf_counter() - begin, time.process_time() - begin_cpu

    runner = EngineRunner(spec)
    measured = [runner.measure_network(graph(architecture)) / spec.clock_mhz for architecture in unseen]
    found = accuracy([estimate.latency_us for estimate in estimates], measured)
    covered = float(np.mean([e.latency_upper_us >= m for e, m in zip(estimates, measured, strict=True)]))
    figures = {
        **found.as_dict(),
        "per_second_warm": len(unseen) / seconds,
        "per_second_warm_cpu": len(unseen) / seconds_cpu,
        "fit_seconds": fit_seconds,
        "upper_bound_coverage": covered,
        "extrapolated": float(np.mean([estimate.extrapolated for estimate in estimates])),
        "target": spec.name,
        "card": estimator.card.as_dict(),
    }
    print(f"{spec.name}: {len(unseen)} unseen architectures of {FAMILY}")
    for name, value in figures.items():
        if isinstance(value, float):
            print(f"  {name:22} {value:10.4f}")
    print(f"  {'held out':22} {'count':>6} {'acc5':>7} {'acc10':>7} {'rmspe':>8} {'spearman':>9}")
    for kind, row in estimator.card.rows():
        print(f"  {kind:22} {row.count:6} {row.acc5:7.3f} {row.acc10:7.3f} {row.rmspe:8.4f} {row.spearman:9.4f}")
    finish(args.json, figures, seed=args.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
