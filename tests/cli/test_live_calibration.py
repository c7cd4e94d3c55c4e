"""`lanefit calibrate --live` and predictions with it: a killed calibration continues; refusals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_runner import Cli
from kernel_device import random_networks

from lanefit.common.errors import EstimatorError
from lanefit.estimator.live.store import LiveMeasurement, LiveStore
from lanefit.estimator.opgraph.onnx_writer import to_model

PIECES = 12


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("samples")
    paths = [folder / f"net{number}.onnx" for number in range(3)]
    for path, graph in zip(paths, random_networks(3, 0, dtype="float32"), strict=True):
        path.write_bytes(to_model(graph).SerializeToString())
    return paths


def arguments(samples: list[Path], file: Path) -> list[str]:
    given = [text for path in samples[:2] for text in ("--sample", str(path))]
    return ["calibrate", "host", "--live", *given, "--measurements", str(PIECES), "--no-rules", "-o", str(file)]


def stored(path: Path) -> dict[str, LiveMeasurement]:
    with LiveStore(path) as store:
        return {m.definition.digest: m for m in store.all(subject="subgraph")}


def kill_once_something_is_stored(command: list[str], store: Path) -> None:
    program = "import sys; from lanefit.cli.main import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen([sys.executable, "-c", program, *command], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if store.exists() and _count(store):
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.02)
    process.wait(timeout=60)


def _count(store: Path) -> int:
    try:
        return len(stored(store))
    except EstimatorError:  # the file is being made
        return 0


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="threads cannot be pinned on this system")
def test_a_killed_calibration_continues_with_what_it_had_measured(
    cli: Cli, samples: list[Path], tmp_path: Path
) -> None:
    file = tmp_path / "host.json"
    kill_once_something_is_stored(arguments(samples, file), tmp_path / "host.sqlite")
    before = stored(tmp_path / "host.sqlite")
    assert before
    ran = cli(*arguments(samples, file), "--plots", tmp_path / "plots")
    assert ran.code == 0
    assert {"predicted.png", "errors.png"} <= {path.name for path in (tmp_path / "plots").iterdir()}
    after = stored(tmp_path / "host.sqlite")
    assert len(after) == PIECES
    assert {digest: after[digest].measured for digest in before} == {d: m.measured for d, m in before.items()}
    assert f"{PIECES} pieces of networks" in ran.out
    profile = cli("profile", samples[0], "--target", file, "--format", "json").document
    estimate, memory = profile["estimate"], profile["memory"]
    spent = sum(part["count"] * part["latency_us"] for part in estimate["parts"])
    assert estimate["run_us"] + spent == pytest.approx(estimate["latency_us"], rel=0.05)
    assert memory["arena_bytes"] >= memory["live_bytes"] > 0
    assert 0 < estimate["lower_us"] <= estimate["latency_us"] <= estimate["upper_us"]
    assert estimate["measured_us"] > 0
    unseen = cli("profile", samples[2], "--target", file, "-b", "latency=1ns", "--format", "json")
    assert unseen.code == 1
    assert unseen.document["estimate"]["measured_us"] is None
    shown = cli("profile", samples[2], "--target", file, "--top", "1")
    assert all(text in shown.out for text in ("where the time goes", "run and ports", "nine of ten", "in one arena"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((), "needs networks to take pieces of"),
        (("--sample", "net0.onnx", "--runtime", "caffe"), "unknown runtime 'caffe'"),
        (("--sample", "net0.onnx", "--sample", "net0.onnx"), "given twice"),
        (("--sample", "net0.onnx", "--measurements", "3"), "3 measurements are too few"),
        (("--sample", "net0.onnx", "--networks", "list.csv"), "reads no tables"),
        (("--sample", "absent.onnx"), "absent.onnx"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    cli: Cli, samples: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(samples[0].parent)
    ran = cli("calibrate", "host", "--live", *more, "-o", tmp_path / "host.json")
    assert ran.code == 2
    assert message in ran.err
