from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from estimator.live.runner_conformance import RunnerConformance

from lanefit.common.errors import InputError, ToolchainError
from lanefit.estimator.live.tvm_runner import TvmRpcRunner, TvmRunner

pytestmark = pytest.mark.slow  # starting TVM, and servers of it, takes many seconds
_PATIENCE_S = 120


class TestThisHost(RunnerConformance):
    @pytest.fixture
    def runner(self) -> TvmRunner:
        return TvmRunner()


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    """The port of an RPC server on this host; it has a process group of its own, so that nothing is left over."""
    port = _free_port()
    command = [sys.executable, "-m", "tvm.exec.rpc_server", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--port-end", str(port + 1)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait(port)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class TestBoard(RunnerConformance):
    @pytest.fixture
    def runner(self, server: int) -> TvmRpcRunner:
        return TvmRpcRunner("test board", "127.0.0.1", server)


def test_a_board_that_does_not_answer_is_named() -> None:
    port = _free_port()
    with pytest.raises(ToolchainError, match=f"127.0.0.1:{port}"):
        TvmRpcRunner("nobody", "127.0.0.1", port)


def test_threads_that_untuned_loops_would_not_use_are_refused() -> None:
    with pytest.raises(InputError, match="one thread"):
        TvmRunner(2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(port: int) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
