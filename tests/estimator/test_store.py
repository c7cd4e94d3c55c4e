"""Measurements survive interruptions, many writers and foreign files."""

import csv
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lanefit.common.errors import EstimatorError
from lanefit.estimator.fit import measure_all
from lanefit.estimator.measurement import (
    Measurement,
    MeasurementKey,
    Workload,
    toolchain_hash,
    workload_from_dict,
)
from lanefit.estimator.probes import probes
from lanefit.estimator.runner import EngineRunner
from lanefit.estimator.store import MeasurementStore
from lanefit.targets.spec import load_spec

SPEC = load_spec("ne-256")
PROBES = probes(SPEC, per_kind=2, seed=0)


def _measurement(workload: Workload, latency: float, target: str = "t") -> Measurement:
    return Measurement(MeasurementKey(workload, target, "c"), "cycles", (latency,), {"tail": 1.5}, {"device": "fake"})


def _write(path: Path, latency: float) -> None:
    with MeasurementStore(path) as store:
        for workload in PROBES:
            store.add([_measurement(workload, latency)])


class _Counting(EngineRunner):
    def __init__(self, limit: int) -> None:
        super().__init__(SPEC)
        self.count, self.limit = 0, limit

    def measure(self, workload: Workload) -> Measurement:
        if self.count == self.limit:
            raise KeyboardInterrupt
        self.count += 1
        return super().measure(workload)


def test_a_measurement_comes_back_as_it_was_stored(tmp_path: Path) -> None:
    with MeasurementStore(tmp_path / "m.sqlite") as store:
        for number, workload in enumerate(PROBES):
            store.add([_measurement(workload, 1 + number / 3)])
        for number, workload in enumerate(PROBES):
            assert store.get(MeasurementKey(workload, "t", "c")) == _measurement(workload, 1 + number / 3)
        assert store.get(MeasurementKey(PROBES[0], "other", "c")) is None
        assert len(store) == len(PROBES)


def test_the_first_of_two_measurements_with_one_key_stays(tmp_path: Path) -> None:
    with MeasurementStore(tmp_path / "m.sqlite") as store:
        store.add([_measurement(PROBES[0], 1.0), _measurement(PROBES[0], 2.0), _measurement(PROBES[0], 3.0, "u")])
        assert [m.latency for m in store.all()] == [1.0, 3.0]
        assert [m.latency for m in store.all(target="u")] == [3.0]


def test_many_writers_may_add_the_same_measurements_at_once(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(_write, path, 1.0 + n) for n in range(8)]:
            done.result()
    with MeasurementStore(path) as store:
        assert len(store) == len(PROBES)


def test_interrupted_measuring_resumes_without_measuring_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lanefit.estimator.fit._BATCH", 3)
    with MeasurementStore(tmp_path / "m.sqlite") as store:
        with pytest.raises(KeyboardInterrupt):
            measure_all(_Counting(limit=7), PROBES, store=store)
        assert len(store) == 6
        again = _Counting(limit=1000)
        found = measure_all(again, PROBES, store=store)
        assert again.count == len(PROBES) - 6
        assert found == measure_all(EngineRunner(SPEC), PROBES)


def test_missing_lists_what_is_left_to_measure(tmp_path: Path) -> None:
    with MeasurementStore(tmp_path / "m.sqlite") as store:
        store.add([_measurement(workload, 1.0) for workload in PROBES[:3]])
        assert store.missing(PROBES, "t", "c") == PROBES[3:]
        assert store.missing(PROBES, "t", "newer") == PROBES


def test_rows_export_as_csv(tmp_path: Path) -> None:
    with MeasurementStore(tmp_path / "m.sqlite") as store:
        store.add([_measurement(workload, 2.0) for workload in PROBES])
        store.export_csv(tmp_path / "m.csv")
    rows = list(csv.DictReader((tmp_path / "m.csv").read_text().splitlines()))
    assert len(rows) == len(PROBES)
    assert {(row["unit"], row["samples"]) for row in rows} == {("cycles", "[2.0]")}


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(EstimatorError, match="cannot be used as a measurement store"):
        MeasurementStore(path)


def test_a_damaged_store_is_refused_when_read(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    _write(path, 1.0)
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(EstimatorError, match="cannot be used as a measurement store"), MeasurementStore(path) as store:
        store.all()


def test_a_store_with_a_malformed_row_is_refused_when_read(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    _write(path, 1.0)
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE measurement SET samples = '5'")
    connection.close()
    with pytest.raises(EstimatorError), MeasurementStore(path) as store:
        store.all()


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("CREATE TABLE other (x)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(EstimatorError, match="another program"):
        MeasurementStore(path)
    assert path.read_bytes() == before


def test_another_schema_version_is_refused_with_both_versions(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    MeasurementStore(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    with pytest.raises(EstimatorError, match="schema version 7, this lanefit reads version 1"):
        MeasurementStore(path)


def test_a_latency_of_zero_is_no_measurement() -> None:
    with pytest.raises(EstimatorError, match="must be positive"):
        _measurement(PROBES[0], 0.0)


def test_workloads_survive_their_dictionary_form() -> None:
    for workload in PROBES:
        assert workload_from_dict(workload.as_dict()) == workload
    with pytest.raises(EstimatorError, match="malformed workload"):
        workload_from_dict({"subgraph": {"ops": []}})


def test_toolchain_hash_is_sixteen_hex_digits() -> None:
    assert len(toolchain_hash()) == 16
    assert int(toolchain_hash(), 16) >= 0
