"""`lanefit calibrate --live --board`: a board behind TVM's RPC server, here a server on this host."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_runner import Cli
from kernel_device import random_networks

from lanefit.cli.board import parse_board
from lanefit.common.errors import ConfigError
from lanefit.estimator.opgraph.onnx_writer import to_model

_PATIENCE_S = 300


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    """The port of a server with a process group of its own, so that nothing of it is left over."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "tvm.exec.rpc_server", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--port-end", str(port + 1)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while not _answers(port) and time.monotonic() < deadline:
            time.sleep(0.2)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(port: int) -> bool:
    with socket.socket() as visitor:
        return visitor.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
def test_a_board_is_calibrated_through_its_server_and_predicted_without_it(
    cli: Cli, server: int, tmp_path: Path
) -> None:
    paths = [tmp_path / f"net{number}.onnx" for number in range(2)]
    for path, graph in zip(paths, random_networks(2, 0, dtype="float32"), strict=True):
        path.write_bytes(to_model(graph).SerializeToString())
    file = tmp_path / "board.json"
    ran = cli(
        "calibrate", "board-3", "--live", "--runtime", "tvm", "--board", f"127.0.0.1:{server}", "--no-rules",
        "--sample", paths[0], "--sample", paths[1], "--measurements", "10", "-o", file, "--format", "json",
    )  # fmt: skip
    assert ran.code == 0
    card = ran.document["card"]
    assert card["device"] == "board-3"
    assert card["toolchain"].endswith("RPC")
    estimate = cli("profile", paths[0], "--target", file, "--format", "json").document["estimate"]
    assert estimate["measured_us"] > 0
    assert 0 < estimate["lower_us"] <= estimate["latency_us"] <= estimate["upper_us"]


def test_an_address_and_an_instruction_set_are_read() -> None:
    found = parse_board("board-3", "127.0.0.1:9090", "aarch64-linux-gnu,cortex-a72")
    assert found is not None
    assert (found.name, found.host, found.port) == ("board-3", "127.0.0.1", 9090)
    assert found.target == ("aarch64-linux-gnu", "cortex-a72")
    assert parse_board("host", "", "") is None


@pytest.mark.parametrize(
    ("address", "target", "message"),
    [
        ("127.0.0.1", "", "is no address"),
        ("127.0.0.1:99999", "", "is no address"),
        ("", "aarch64-linux-gnu,generic", "describes a board"),
        ("127.0.0.1:9090", "cortex-a72", "is no instruction set"),
    ],
)
def test_what_is_no_board_is_refused(address: str, target: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_board("board", address, target)


def test_a_board_needs_tvm(cli: Cli, tmp_path: Path) -> None:
    (graph,) = random_networks(1, 0, dtype="float32")
    (tmp_path / "a.onnx").write_bytes(to_model(graph).SerializeToString())
    ran = cli("calibrate", "b", "--live", "--board", "127.0.0.1:1", "--sample", tmp_path / "a.onnx")
    assert ran.code == 2
    assert "TVM's RPC" in ran.err
