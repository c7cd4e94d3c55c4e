"""How well single kernels are predicted from a few of them: tables of convolutions timed on any device.

The table has the columns conv_type (Regular or Depthwise) or kind, batch, cin, h, w, cout, k, stride, optionally
elmtfused, and a latency with its unit in the name (`ms`). Rows that cannot be used are dropped and counted. For each
seed N rows are drawn at random; all others are predicted.

    python benchmarks/estimator/kernel_table.py --table v100_trt_conv_int8_ms.csv --train 2000 --seeds 5
"""

from __future__ import annotations

import re
import sys
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanefit.estimator.devices.conformal import coverage
from lanefit.estimator.devices.machine import PACKS, Machine
from lanefit.estimator.devices.operator_model import OperatorRegressor, operator_class
from lanefit.estimator.metrics import accuracy
from lanefit.estimator.opgraph.operator import BYTES_PER_ELEMENT, Operator
from lanefit.estimator.tables.kernels import read_kernels

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import finish, parser

_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", **{name: name for name in BYTES_PER_ELEMENT}}


def main(argv: Sequence[str] | None = None) -> int:
    options = _options(argv)
    dtype = _DTYPES[options.dtype] if options.dtype else _dtype_in(options.table.name)
    table = read_kernels(options.table, dtype=dtype)
    operators = [kernel.operator for kernel in table.kernels]
    latency_us = np.array([kernel.latency_us for kernel in table.kernels])
    if options.train + 100 > len(operators):
        sys.exit(f"{options.table.name} has {len(operators)} usable rows, too few to train on {options.train} of them")
    print(f"{options.table.name}: {len(operators)} kernels in {dtype}, {len(table.problems)} rows dropped")
    runs: list[dict[str, float]] = []
    for seed in range(options.seed, options.seed + options.seeds):
        runs.append(_run(operators, latency_us, options, seed))
        print(f"  seed {seed}: " + "  ".join(f"{name} {value:.4f}" for name, value in runs[-1].items()), flush=True)
    figures = {name: _mean_and_deviation([run[name] for run in runs]) for name in runs[0]}
    for name, found in figures.items():
        print(f"  {name:22} {found['mean']:9.4f} ± {found['sd']:.4f}")
    record: Mapping[str, Any] = {
        **figures, "table": options.table.name, "train": options.train, "dtype": dtype, "seeds": options.seeds,
        "kernels": len(operators), "dropped": len(table.problems), "runs": runs,
    }  # fmt: skip
    finish(options.json, record, first=options.seed)
    return 0


def _run(
    operators: Sequence[Operator], latency_us: NDArray[np.float64], options: Namespace, seed: int
) -> dict[str, float]:
    order = np.random.default_rng(seed).permutation(len(operators))
    train, test = order[: options.train], order[options.train :]
    machine = Machine(options.units, options.pack) if options.units else None
    started = time.perf_counter()
    model = OperatorRegressor(machine=machine, random_state=seed).fit([operators[i] for i in train], latency_us[train])
    fitted = time.perf_counter()
    known = [operator_class(operators[i]) in model.class_names_ for i in test]
    test, unknown = test[known], len(test) - sum(known)
    found = model.predict_intervals([operators[i] for i in test])
    measured = latency_us[test]
    judged = accuracy(found.latency, measured)
    return {
        "acc5": judged.acc5, "acc10": judged.acc10, "rmspe": judged.rmspe, "spearman": judged.spearman,
        "interval90_coverage": coverage(found.lower, found.upper, measured),
        "interval90_width": float(np.median(found.upper / found.lower)),
        "extrapolated": float(found.extrapolated.mean()), "tested": len(test), "unknown": unknown,
        "fit_seconds": fitted - started, "predict_seconds": time.perf_counter() - fitted,
    }  # fmt: skip


def _mean_and_deviation(values: Sequence[float]) -> dict[str, float]:
    return {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0}


def _dtype_in(name: str) -> str:
    words = [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word in _DTYPES]
    if len(words) != 1:
        print(f"the name {name} says no element type: taken for float32, see --dtype", file=sys.stderr)
        return "float32"
    return _DTYPES[words[0]]


def _options(argv: Sequence[str] | None) -> Namespace:
    found = parser(__doc__)
    found.add_argument("--table", type=Path, required=True, metavar="CSV", help="measured kernels")
    found.add_argument("--train", type=int, default=2000, metavar="N", help="kernels to fit on (default: %(default)s)")
    found.add_argument("--seeds", type=int, default=5, help="random splits (default: %(default)s)")
    found.add_argument("--dtype", choices=sorted(_DTYPES), help="of kernels without a column; by the table's name")
    found.add_argument("--units", type=int, default=0, help="parallel units of the device; found by fit when absent")
    found.add_argument("--pack", type=int, default=1, choices=PACKS, help="channels packed together, with --units")
    return found.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
