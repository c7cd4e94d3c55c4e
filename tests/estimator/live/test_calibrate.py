from __future__ import annotations

import os
import signal
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from estimator.live.synthetic import SyntheticRunner, true_latency_us
from estimator.live.test_additive import CACHES, random_graph

from lanefit.common.errors import EstimatorError
from lanefit.estimator.live.calibrate import Budget, calibrate, measure_networks, network_sum, pieces
from lanefit.estimator.live.protocol import Protocol
from lanefit.estimator.live.store import LiveStore

BUDGET = Budget(measurements=40, rounds=3, candidates=200, batch=8)
PROTOCOL = Protocol(visit_us=0, runs_per_visit=3)
GRAPHS = [random_graph(np.random.default_rng(seed), 12) for seed in range(10)]


def run(runner: SyntheticRunner, path: Path) -> list[float]:
    with LiveStore(path) as store:
        model = calibrate(runner, GRAPHS, store, caches=CACHES, budget=BUDGET, protocol=PROTOCOL)
        networks = [random_graph(np.random.default_rng(seed), 15) for seed in range(50, 70)]
        predicted, _ = model.predict([network_sum(g, CACHES) for g in networks])
        return list(predicted / [true_latency_us(g) for g in networks])


def test_a_synthetic_device_is_calibrated_within_its_budget(tmp_path: Path) -> None:
    runner = SyntheticRunner()
    ratios = run(runner, tmp_path / "live.sqlite")
    assert runner.prepared == BUDGET.measurements
    assert np.mean(np.abs(np.array(ratios) - 1) < 0.1) >= 0.9


def test_a_killed_calibration_resumes_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "live.sqlite"
    with pytest.raises(KeyboardInterrupt):
        run(SyntheticRunner(fail_after=20), path)
    with LiveStore(path) as store:
        kept = len(store)
    assert 0 < kept < 20
    again = SyntheticRunner()
    run(again, path)
    assert again.prepared == BUDGET.measurements - kept
    nothing_left = SyntheticRunner()
    run(nothing_left, path)
    assert nothing_left.prepared == 0


def test_a_calibration_that_the_system_kills_resumes_with_what_it_had_measured(tmp_path: Path) -> None:
    path = tmp_path / "live.sqlite"
    child = os.fork()
    if not child:
        try:
            run(SyntheticRunner(fail_after=20, failure=lambda: os.kill(os.getpid(), signal.SIGKILL)), path)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    with LiveStore(path) as store:
        kept = len(store)
    assert kept == 14  # the two batches of the first round
    again = SyntheticRunner()
    run(again, path)
    assert again.prepared == BUDGET.measurements - kept


def test_another_toolchain_is_measured_anew(tmp_path: Path) -> None:
    path = tmp_path / "live.sqlite"
    run(SyntheticRunner(), path)
    other = SyntheticRunner(toolchain="synthetic 2")
    run(other, path)
    assert other.prepared == BUDGET.measurements


def test_no_piece_is_more_than_half_a_network() -> None:
    for piece in pieces(GRAPHS, 500, seed=0):
        assert 2 * len(piece.slice.nodes) <= len(piece.slice.graph.nodes)


def test_most_pieces_are_as_cold_as_in_their_network_and_some_are_warm() -> None:
    found = pieces(GRAPHS, 300, seed=0)
    warm = np.mean([piece.sweep_bytes == 0 for piece in found])
    assert 0.1 < warm < 0.4


def test_samples_without_operators_are_refused() -> None:
    with pytest.raises(EstimatorError, match="no operators"):
        pieces([], 10, seed=0)


def test_networks_are_measured_once(tmp_path: Path) -> None:
    named = {f"net{i}": graph for i, graph in enumerate(GRAPHS)}
    with LiveStore(tmp_path / "live.sqlite") as store:
        first, second = SyntheticRunner(), SyntheticRunner()
        found = measure_networks(first, named, store, caches=CACHES, protocol=PROTOCOL, batch=4)
        again = measure_networks(second, named, store, caches=CACHES, protocol=PROTOCOL, batch=4)
        assert (first.prepared, second.prepared) == (10, 0)
        assert {n: m.measured for n, m in found.items()} == {n: m.measured for n, m in again.items()}
        for name, graph in named.items():
            assert found[name].measured.latency_us == pytest.approx(true_latency_us(graph))


def test_measurements_are_exported_with_everything_needed_to_judge_them(tmp_path: Path) -> None:
    with LiveStore(tmp_path / "live.sqlite") as store:
        measure_networks(SyntheticRunner(), {"net": GRAPHS[0]}, store, caches=CACHES, protocol=PROTOCOL)
        store.export_csv(tmp_path / "live.csv")
    header, row = (tmp_path / "live.csv").read_text().splitlines()
    assert {"latency_us", "raw_us", "slowdown", "state", "toolchain", "device", "measured_at"} <= set(header.split(","))
    assert "clock_mhz" in row


def test_parquet_holds_the_rows_of_the_csv(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="Parquet needs the extra `parquet`")
    with LiveStore(tmp_path / "live.sqlite") as store:
        measure_networks(SyntheticRunner(), {"net": GRAPHS[0]}, store, caches=CACHES, protocol=PROTOCOL)
        store.export_parquet(tmp_path / "live.parquet")
    table = parquet.read_table(tmp_path / "live.parquet")
    assert table.num_rows == 1
    assert table["latency_us"][0].as_py() == pytest.approx(true_latency_us(GRAPHS[0]))


def test_parquet_without_its_package_is_refused_with_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with LiveStore(tmp_path / "live.sqlite") as store, pytest.raises(EstimatorError, match="pyarrow"):
        store.export_parquet(tmp_path / "live.parquet")


@pytest.mark.parametrize("content", [b"", b"not a database at all" * 100])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.sqlite"
    if content:
        path.write_bytes(content)
    else:
        sqlite3.connect(path).execute("CREATE TABLE other (x)").connection.close()
    with pytest.raises(EstimatorError, match=r"store of live measurements|another program"):
        LiveStore(path)
