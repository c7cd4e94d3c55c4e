"""A new device from ten networks and the models of other devices.

Every source column gives a `NetworkModel` of its device, fitted to `--source-networks` of its rows. Whoever has a new
device may choose what to measure on it: each draw takes `--candidates` random networks and asks, without any latency
of the new device, which `--samples` of them say most (`--select random` takes the first ones instead). The transfer is
fitted to these and predicts others (`--test` of them, all when 0). `spearman` and `acc10` are means and standard
deviations over draws.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from architecture_tables import CLASSES, MeasuredArchitectures, read_measured
from numpy.typing import NDArray

from lanefit.estimator.devices.network_model import NetworkModel, fit_networks
from lanefit.estimator.devices.semantics_choice import choose_reading
from lanefit.estimator.devices.transfer import fit_transfer
from lanefit.estimator.devices.transfer_choice import choose_samples
from lanefit.estimator.devices.transfer_prior import Known
from lanefit.estimator.metrics import accuracy
from lanefit.nas.written_graph import READINGS

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import finish, parser


class Source:
    """A device that is known: its model, and the reading that it was fitted under."""

    def __init__(self, table: MeasuredArchitectures, networks: int, seed: int) -> None:
        chosen = np.random.default_rng(seed).permutation(len(table.time))[:networks]
        time = table.time[chosen]
        self.reading, _ = choose_reading(READINGS, lambda i, name: table.counts(int(chosen[i]), name), time)
        graphs = [table.counts(int(i), self.reading) for i in chosen]
        self.model: NetworkModel = fit_networks(graphs, time).model

    def latency(self, table: MeasuredArchitectures, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return self.model.predict([table.counts(int(i), self.reading) for i in rows]).latency


def known(table: MeasuredArchitectures, rows: NDArray[np.int64], reading: str, sources: list[Source]) -> Known:
    """The networks `rows` of the new table, with what the sources say of them."""
    said = [source.latency(table, rows) for source in sources]
    graphs = [table.counts(int(i), reading) for i in rows]
    return Known(graphs, np.column_stack(said) if said else np.zeros((len(rows), 0)))


def pick(table: MeasuredArchitectures, candidates: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The candidates that are worth measuring."""
    pool = {reading: [table.counts(int(i), reading) for i in candidates] for reading in READINGS}
    return candidates[list(choose_samples(pool, count))]


def draw_figures(
    table: MeasuredArchitectures, rows: NDArray[np.int64], tested: NDArray[np.int64], sources: list[Source]
) -> dict[str, Any]:
    """A transfer from the networks `rows`, judged on `tested` without them."""
    samples = {reading: known(table, rows, reading, sources) for reading in READINGS}
    model = fit_transfer(samples, table.time[rows], [source.model for source in sources])
    judged = tested[~np.isin(tested, rows)]
    networks = {reading: known(table, judged, reading, sources) for reading in model.readings}
    found = accuracy(model.predict(networks), table.time[judged])
    likely = max(model.readings, key=model.readings.__getitem__)
    return {"spearman": found.spearman, "acc10": found.acc10, "reading": likely}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--archs", choices=sorted(CLASSES), required=True, help="family of the table's networks")
    options.add_argument("--table", type=Path, required=True, metavar="CSV")
    options.add_argument("--column", required=True, help="the new device")
    options.add_argument("--sources", default="", metavar="A,B,C", help="columns of known devices")
    options.add_argument("--source-table", type=Path, metavar="CSV", help="table of the sources (default: --table)")
    options.add_argument(
        "--samples", type=int, default=10, metavar="N", help="networks measured (default: %(default)s)"
    )
    options.add_argument("--draws", type=int, default=20, metavar="N", help="random draws (default: %(default)s)")
    options.add_argument("--source-networks", type=int, default=500, metavar="N", help="default: %(default)s")
    options.add_argument(
        "--select",
        choices=("active", "random"),
        default="active",
        help="who says which networks are measured: a design without any latency, or chance (default: %(default)s)",
    )
    options.add_argument("--candidates", type=int, default=150, metavar="N", help="default: %(default)s")
    options.add_argument("--test", type=int, default=4000, metavar="N", help="0 for all (default: %(default)s)")
    given = options.parse_args()
    table = read_measured(given.table, given.archs, given.column)
    names = [name for name in given.sources.split(",") if name]
    source_table = given.source_table or given.table
    measured = [read_measured(source_table, given.archs, name) for name in names]
    sources = [Source(source, given.source_networks, given.seed) for source in measured]
    print(f"{given.column}: {len(table.time)} networks, dropped {table.dropped or 'none'}")
    print("sources: " + (", ".join(f"{n} ({s.reading})" for n, s in zip(names, sources, strict=True)) or "none"))
    order = np.random.default_rng(given.seed).permutation(len(table.time))
    tested = order[: given.test] if given.test else order
    runs = []
    for draw in range(given.draws):
        drawn = np.random.default_rng([given.seed, draw]).permutation(len(table.time))
        rows = drawn[: given.samples]
        if given.select == "active":
            rows = pick(table, drawn[: max(given.candidates, given.samples)], given.samples)
        runs.append(draw_figures(table, rows, tested, sources))
        print(f"{draw:4d} {runs[-1]['spearman']:8.4f} {runs[-1]['acc10']:8.4f}  {runs[-1]['reading']}", flush=True)
    figures = {}
    for name in ("spearman", "acc10"):
        values = np.array([run[name] for run in runs], np.float64)
        figures[name] = {"mean": float(values.mean()), "sd": float(values.std())}
        print(f"{name} {values.mean():.4f} ± {values.std():.4f}")
    record = {
        "runs": runs,
        "samples": given.samples,
        "select": given.select,
        "sources": names,
        "dropped": table.dropped,
    }
    finish(given.json, {"column": given.column, **figures, **record}, seed=given.seed)


if __name__ == "__main__":
    main()
