"""How an engine's estimator fares on operators of sizes that it never saw: is it flagged, and how far is it off?

For every kind of subgraph and every quarter of its sizes (latency by closed form), the estimator is fitted without
the workloads of that quarter and asked for them. `flagged` is the share of these that it calls extrapolated, `acc10`
the share within ten per cent of the cycle model; `flagged_seen` is the share of false alarms: held-out workloads of
the other quarters that it calls extrapolated.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from engine_accuracy import FIT, architectures, graph
from numpy.typing import NDArray

from lanefit.estimator.decompose import distinct_workloads
from lanefit.estimator.features import COLUMN, KINDS, feature_matrix
from lanefit.estimator.fit import FitBudget, measure_all
from lanefit.estimator.measurement import Workload
from lanefit.estimator.metrics import accuracy
from lanefit.estimator.model import fit_phases
from lanefit.estimator.probes import probes
from lanefit.estimator.runner import EngineRunner, candidate
from lanefit.estimator.validity import validity_box
from lanefit.targets.spec import EngineSpec, load_spec

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import finish, parser

QUARTERS = 4
_LEAST = 40  # workloads of a kind: below that, a quarter says nothing


def workloads(spec: EngineSpec, architectures_: int, limit: int, seed: int) -> list[Workload]:
    """Workloads of random networks, and the probes that every fit measures."""
    found = distinct_workloads(map(graph, architectures(architectures_, seed, FIT)), spec)
    order = np.random.default_rng(seed).permutation(len(found))[:limit]
    chosen = [found[i] for i in sorted(order.tolist())]
    return list(dict.fromkeys(chosen + probes(spec, per_kind=FitBudget().probes_per_kind, seed=seed)))


def quarter_figures(
    x: NDArray[np.float64], durations: list[dict[str, float]], latency: NDArray[np.float64], out: NDArray[np.bool_],
    seed: int,
) -> dict[str, float]:  # fmt: skip
    """Fit without `out` and a tenth of the rest; judge both."""
    spared = ~out & (np.random.default_rng(seed).random(len(x)) < 0.1)
    used = ~out & ~spared
    regressor = fit_phases(
        x[used], [d for d, u in zip(durations, used, strict=True) if u], trees=100, random_state=seed
    )
    box = validity_box(x[used])
    found = accuracy(regressor["latency"].predict(x[out]), latency[out])
    return {
        "count": int(out.sum()),
        "acc10": found.acc10,
        "rmspe": found.rmspe,
        "flagged": float(box.outside(x[out]).mean()),
        "flagged_seen": float(box.outside(x[spared]).mean()),
    }


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--target", default="ne-256", help="preset or TOML file (default: %(default)s)")
    options.add_argument("--fit-architectures", type=int, default=200, help="networks (default: %(default)s)")
    options.add_argument("--workloads", type=int, default=2000, help="of these networks (default: %(default)s)")
    args = options.parse_args()
    spec = load_spec(args.target)
    work = workloads(spec, args.fit_architectures, args.workloads, args.seed)
    measured = measure_all(EngineRunner(spec), work)
    durations = [{"latency": m.latency, **m.phases} for m in measured]
    latency = np.array([m.latency for m in measured])
    x = feature_matrix([(w.subgraph, candidate(w, spec)) for w in work], spec)
    size, kinds = x[:, COLUMN["physics_latency"]], x[:, COLUMN["kind"]].astype(int)
    rows: dict[str, Any] = {}
    print(f"{spec.name}: {'left out':30} {'count':>6} {'acc10':>7} {'rmspe':>8} {'flagged':>8} {'false':>7}")
    for kind in np.unique(kinds):
        own = kinds == kind
        if own.sum() < _LEAST:
            continue
        edges = np.quantile(size[own], np.linspace(0, 1, QUARTERS + 1))
        for quarter in range(QUARTERS):
            out = own & (size >= edges[quarter]) & (size <= edges[quarter + 1])
            name = f"{KINDS[kind]}, quarter {quarter + 1}"
            rows[name] = found = quarter_figures(x, durations, latency, out, args.seed)
            print(
                f"{'':8} {name:30} {found['count']:6} {found['acc10']:7.3f} {found['rmspe']:8.4f}"
                f" {found['flagged']:8.3f} {found['flagged_seen']:7.3f}"
            )
    total = sum(row["count"] for row in rows.values())
    figures = {n: sum(r[n] * r["count"] for r in rows.values()) / total for n in ("acc10", "flagged", "flagged_seen")}
    print("  ".join(f"{name} {value:.3f}" for name, value in figures.items()))
    finish(args.json, {**figures, "target": spec.name, "left_out": rows}, seed=args.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
