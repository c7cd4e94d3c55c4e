"""`--board HOST:PORT`: a board behind TVM's RPC server, in place of this host."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..common.errors import ConfigError

if TYPE_CHECKING:
    from ..estimator.live.sessions import LiveRunner

_ADDRESS = re.compile(r"(?P<host>[^\s:/]+):(?P<port>\d{1,5})")


@dataclass(frozen=True, slots=True)
class Board:
    """Where a board's RPC server listens; `target` is its instruction set as (triple, cpu), this machine's if None."""

    name: str
    host: str
    port: int
    target: tuple[str, str] | None = None

    def runner(self, runtime: str, threads: int) -> LiveRunner:
        """Raises `ConfigError` for what the server cannot measure, `ToolchainError` when nobody answers."""
        if runtime != "tvm" or threads != 1:
            raise ConfigError(
                "a board is measured through TVM's RPC, on one thread",
                where="--board",
                hint="--runtime tvm --threads 1",
            )
        from ..estimator.live.tvm_runner import TvmRpcRunner
        from ..export.host import HostTarget

        target = None if self.target is None else HostTarget(*self.target)
        return TvmRpcRunner(self.name, self.host, self.port, target=target)


def parse_board(name: str, address: str, target: str) -> Board | None:
    """The board of `--board` and `--board-target`; None without the former."""
    if not address:
        if target:
            raise ConfigError("--board-target describes a board", where="--board-target", hint="give --board too")
        return None
    match = _ADDRESS.fullmatch(address)
    if match is None or not 0 < int(match["port"]) < 65536:
        raise ConfigError(f"{address!r} is no address", where="--board", hint="HOST:PORT, such as 127.0.0.1:9090")
    parts = tuple(target.split(",")) if target else None
    if parts is not None and (len(parts) != 2 or not all(parts)):
        raise ConfigError(
            f"{target!r} is no instruction set", where="--board-target", hint="TRIPLE,CPU: aarch64-linux-gnu,cortex-a72"
        )
    return Board(name, match["host"], int(match["port"]), None if parts is None else (parts[0], parts[1]))
