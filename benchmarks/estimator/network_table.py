"""Whole networks of a published table: fit to a few, predict all others.

For every seed, `--train` networks are drawn, the reading of the graphs (semantics of dead operators) is chosen and a
`NetworkModel` fitted from them alone, and all other networks of the table are predicted. `acc5` and `acc10` are
shares within 5 and 10 %, `rmspe` is the root mean square relative error, `interval90_coverage` the share of
measurements inside of the 90 % intervals, `interval90_width` their mean width as a share of the prediction; each is
mean and standard deviation over seeds.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from architecture_tables import CLASSES, MeasuredArchitectures, read_measured

from lanefit.estimator.devices.conformal import coverage
from lanefit.estimator.devices.network_model import fit_networks
from lanefit.estimator.devices.semantics_choice import choose_reading
from lanefit.estimator.metrics import accuracy
from lanefit.nas.written_graph import READINGS

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import finish, parser

FIGURES = ("acc5", "acc10", "rmspe", "spearman", "interval90_coverage", "interval90_width")


def seed_figures(table: MeasuredArchitectures, train: int, test: int | None, seed: int) -> dict[str, Any]:
    """Everything about one random split."""
    order = np.random.default_rng(seed).permutation(len(table.time))
    fitted, tested = order[:train], order[train:][:test]
    started = time.process_time()
    reading, _ = choose_reading(READINGS, lambda i, name: table.counts(int(fitted[i]), name), table.time[fitted])
    fit = fit_networks([table.counts(int(i), reading) for i in fitted], table.time[fitted])
    fit_seconds = time.process_time() - started
    found = fit.model.predict([table.counts(int(i), reading) for i in tested])
    truth = table.time[tested]
    error = accuracy(found.latency, truth)
    return {
        "acc5": error.acc5,
        "acc10": error.acc10,
        "rmspe": error.rmspe,
        "spearman": error.spearman,
        "interval90_coverage": coverage(found.lower, found.upper, truth),
        "interval90_width": float(np.mean((found.upper - found.lower) / found.latency)),
        "extrapolated": float(found.extrapolated.mean()),
        "reading": reading,
        "structure": fit.model.structure is not None,
        "left_out_error": fit.error,
        "fit_cpu_seconds": fit_seconds,
        "seed": seed,
    }


def summary(runs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation of each figure over seeds."""
    values = {name: np.array([run[name] for run in runs], np.float64) for name in FIGURES}
    return {name: {"mean": float(v.mean()), "sd": float(v.std())} for name, v in values.items()}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--archs", choices=sorted(CLASSES), required=True, help="family of the table's networks")
    options.add_argument("--table", type=Path, required=True, metavar="CSV")
    options.add_argument("--column", required=True, help="latency or energy, or a throughput, which is inverted")
    options.add_argument(
        "--train", type=int, default=500, metavar="N", help="networks to fit to (default: %(default)s)"
    )
    options.add_argument("--seeds", type=int, default=5, metavar="N", help="random splits (default: %(default)s)")
    options.add_argument("--test", type=int, metavar="N", help="networks to judge on (default: all others)")
    given = options.parse_args()
    table = read_measured(given.table, given.archs, given.column)
    if not 10 <= given.train < len(table.time):
        options.error(f"--train must lie between 10 and {len(table.time) - 1}, the usable networks of the table")
    print(f"{given.column}: {len(table.time)} networks, dropped {table.dropped or 'none'}")
    print("seed " + " ".join(f"{name.removeprefix('interval90_'):>10.10}" for name in FIGURES) + "  reading")
    runs = []
    for seed in range(given.seed, given.seed + given.seeds):
        runs.append(seed_figures(table, given.train, given.test, seed))
        row = " ".join(f"{runs[-1][name]:10.4f}" for name in FIGURES)
        print(f"{seed:4d} {row}  {runs[-1]['reading']}{', surroundings' if runs[-1]['structure'] else ''}", flush=True)
    figures = summary(runs)
    print("mean " + " ".join(f"{figures[name]['mean']:10.4f}" for name in FIGURES))
    print("s.d. " + " ".join(f"{figures[name]['sd']:10.4f}" for name in FIGURES))
    record = {**figures, "runs": runs, "dropped": table.dropped, "networks": len(table.time), "train": given.train}
    finish(given.json, {"column": given.column, **record}, seed=given.seed, seeds=given.seeds)


if __name__ == "__main__":
    main()
