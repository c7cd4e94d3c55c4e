"""This host, calibrated live from pieces of sample networks alone, tested on 60 whole networks that it has never seen.

A measurement is one model of one to eight operators, run until its median is certain; it yields one number. Test
networks are measured before and after the calibration, in the same session and by the same protocol: what counts is
the median over both, and `repeatability10` is the share of networks whose two medians agree within ±10 %, the best
that any prediction could be expected to reach. `calibration_seconds` is everything from sample models to fitted
model: optimising, choosing, measuring, fitting. With --work DIR an interrupted run resumes.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Literal, TypeAlias

import numpy as np
from host_networks import FAMILIES, sample_networks, test_networks
from onnx import ModelProto
from threadpoolctl import threadpool_limits

from lanefit.estimator.live.additive import AdditiveModel
from lanefit.estimator.live.calibrate import PIECES, Budget, calibrate, measure_networks, network_sum
from lanefit.estimator.live.executed import ExecutedGraph
from lanefit.estimator.live.files import CalibratedDevice, save_device
from lanefit.estimator.live.ort_runner import OrtRunner
from lanefit.estimator.live.protocol import Protocol, settled
from lanefit.estimator.live.reference import gauge
from lanefit.estimator.live.sessions import LiveRunner
from lanefit.estimator.live.state import cache_steps, host_state
from lanefit.estimator.live.steadiness import Gauge
from lanefit.estimator.live.store import LiveMeasurement, LiveStore
from lanefit.estimator.metrics import accuracy, relative_errors

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import finish, parser

NETWORKS = Protocol(warm_up=1, runs_per_visit=1, min_visits=6, max_visits=12, visit_us=30_000)
Z90 = 1.645
Clock: TypeAlias = Literal["wall", "processor"]


def runner_of(name: str, threads: int, clock: Clock) -> LiveRunner:
    if name == "onnxruntime":
        return OrtRunner(threads, clock=clock)
    from lanefit.estimator.live.tvm_runner import TvmRunner

    return TvmRunner(threads, clock=clock)


def measured_pass(
    number: int,
    runner: LiveRunner,
    graphs: Mapping[str, ExecutedGraph],
    store: LiveStore,
    reference: Gauge,
    seed: int,
) -> dict[str, LiveMeasurement]:
    """One of the two measurements of every test network."""
    named = {f"{name} pass {number}": graph for name, graph in graphs.items()}
    found = measure_networks(
        runner,
        named,
        store,
        caches=cache_steps(),
        protocol=settled(NETWORKS, runner.threads),
        reference=reference,
        seed=seed + number,
    )
    return {name.removesuffix(f" pass {number}"): measured for name, measured in found.items()}


def calibrated(
    runner: LiveRunner,
    store: LiveStore,
    samples: Iterable[ModelProto],
    reference: Gauge,
    seed: int,
    budget: Budget,
) -> tuple[AdditiveModel, float]:
    """The model and the seconds that it took."""
    begin = time.perf_counter()
    graphs = [runner.executed(model) for model in samples]
    model = calibrate(
        runner, graphs, store, caches=cache_steps(), budget=budget, protocol=settled(PIECES, runner.threads),
        reference=reference, seed=seed,
        progress=lambda done, total: print(f"  {done} of {total} pieces", file=sys.stderr),
    )  # fmt: skip
    return model, time.perf_counter() - begin


def figures_of(
    model: AdditiveModel,
    graphs: Mapping[str, ExecutedGraph],
    first: Mapping[str, LiveMeasurement],
    second: Mapping[str, LiveMeasurement],
) -> dict[str, object]:
    names = list(graphs)
    predicted, deviation = model.predict([network_sum(graphs[name], cache_steps()) for name in names])
    visits = [(first[name].measured.samples_us, second[name].measured.samples_us) for name in names]
    measured = np.array([median([*one, *two]) for one, two in visits])
    repeated = relative_errors([median(two) for _, two in visits], [median(one) for one, _ in visits])
    errors = relative_errors(predicted, measured)
    families = {name: name.partition("-")[0] for name in names}
    return {
        **accuracy(predicted, measured).as_dict(),
        "interval90_coverage": float(np.mean(np.abs(predicted - measured) <= Z90 * deviation)),
        "repeatability10": float(np.mean(np.abs(repeated) <= 0.10)),
        "repeatability5": float(np.mean(np.abs(repeated) <= 0.05)),
        "certain": float(np.mean([m.measured.certain for m in (*first.values(), *second.values())])),
        "acc10_by_family": {
            family: float(np.mean([abs(e) <= 0.1 for e, n in zip(errors, names, strict=True) if families[n] == family]))
            for family in dict.fromkeys(families.values())
        },
        "networks": [
            {"name": n, "predicted_us": float(p), "measured_us": float(m), "deviation_us": float(d)}
            for n, p, m, d in zip(names, predicted, measured, deviation, strict=True)
        ],
    }


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--runtime", choices=("onnxruntime", "tvm"), default="onnxruntime")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--measurements", type=int, default=280, help="pieces to measure (default: %(default)s)")
    options.add_argument("--clock", choices=("wall", "processor"), default="wall", help="processor time needs 1 thread")
    options.add_argument("--work", type=Path, metavar="DIR", help="keep models and measurements here, and resume")
    options.add_argument(
        "--families", type=lambda text: text.split(","), default=FAMILIES, help=f"some of {','.join(FAMILIES)}"
    )
    args = options.parse_args()
    if unknown := set(args.families) - set(FAMILIES):
        options.error(f"unknown families {', '.join(sorted(unknown))}; known: {', '.join(FAMILIES)}")
    with tempfile.TemporaryDirectory() as temporary, threadpool_limits(1):
        work = args.work or Path(temporary)
        runner = runner_of(args.runtime, args.threads, args.clock)
        budget = Budget(measurements=args.measurements)
        graphs = {
            name: runner.executed(model)
            for name, model in test_networks(args.seed, work / "models", args.families).items()
        }
        before = host_state()
        path = work / f"{args.runtime}-{args.threads}-{args.seed}.sqlite"
        with LiveStore(path) as store, closing(gauge(runner)) as reference:
            first = measured_pass(1, runner, graphs, store, reference, args.seed)
            samples = sample_networks(args.seed, work / "models", args.families).values()
            model, seconds = calibrated(runner, store, samples, reference, args.seed, budget)
            second = measured_pass(2, runner, graphs, store, reference, args.seed)
        caches = cache_steps()
        save_device(work / "device.json", CalibratedDevice(model, runner.device, runner.toolchain, caches))
    figures = {
        **figures_of(model, graphs, first, second),
        "measurements": len(model.sums),
        "operators_measured": len({t.operator.digest for total in model.sums for t in total.terms}),
        "calibration_seconds": seconds,
        "runtime": args.runtime,
        "threads": args.threads,
        "clock": args.clock,
        "toolchain": runner.toolchain,
        "device": runner.device,
        "state_before": before,
        "state_after": host_state(),
    }
    report(figures)
    finish(args.json, figures, seed=args.seed)
    return 0


def report(figures: Mapping[str, object]) -> None:
    print(f"{figures['device']}: {figures['toolchain']}, {figures['count']} networks")
    for name, value in figures.items():
        if isinstance(value, int | float) and name not in ("count", "threads"):
            print(f"  {name:22} {value:10.4f}")
    for family, share in dict(figures["acc10_by_family"]).items():  # pyright: ignore[reportCallIssue, reportArgumentType]
        print(f"  {'acc10 of ' + family:22} {share:10.4f}")


if __name__ == "__main__":
    sys.exit(main())
