"""Processes that share a study: who they are, the sign of life that they give, and who of them is gone.

Optuna's own heartbeat lives in its database class, which a gRPC client does not have, and compares clocks of
different machines. Here a worker counts a number up in an attribute of its running trial, on any storage, and whoever
waits for that trial measures with its own clock how long the number stayed the same. A worker on the same machine
needs no clock: its process exists or it does not.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PULSE_SECONDS = 5.0
GRACE_SECONDS = 60.0  # without a sign of life, as seen by one observer

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Worker:
    """A process: `machine` tells boots and containers apart, `born` processes that had the same number."""

    machine: str
    pid: int
    born: str

    def __str__(self) -> str:
        return f"{self.machine}:{self.pid}:{self.born}"

    @classmethod
    def parse(cls, text: str) -> Worker | None:
        """The inverse of `str`, or None for a text that is no worker."""
        machine, _, rest = text.rpartition(":")[0].rpartition(":")
        return cls(machine, int(rest), text.rpartition(":")[2]) if machine and rest.isdecimal() else None


def this_worker() -> Worker:
    return Worker(_machine(), os.getpid(), _born(os.getpid()))


def is_gone(worker: Worker) -> bool:
    """True when the process was of this machine and has ended; False for all that cannot be known from here."""
    if worker.machine != _machine():
        return False
    try:
        os.kill(worker.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return _born(worker.pid) != worker.born or _is_zombie(worker.pid)


class Pulse:
    """Calls `beat` with a growing number every `seconds` while the block runs, from a thread of its own.

    Whatever `beat` raises ends the thread: a trial that was given to another worker needs no sign of life, and a
    storage that cannot be reached will say so when the trial ends.
    """

    def __init__(self, beat: Callable[[int], None], seconds: float = PULSE_SECONDS) -> None:
        self._beat, self._seconds, self._over = beat, seconds, threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def __enter__(self) -> Pulse:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        count = 0
        while not self._over.wait(self._seconds):
            count += 1
            try:
                self._beat(count)
            except Exception:
                return


class Watch:
    """Finds out whose worker no longer gives signs of life.

    A look adds at most two pulses to the time that a number stayed the same: when all processes of a machine are
    stopped for an hour and go on, nobody has lapsed.
    """

    def __init__(
        self, grace: float = GRACE_SECONDS, pulse: float = PULSE_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._grace, self._step, self._clock = grace, 2 * pulse, clock
        self._seen: dict[int, tuple[Any, float, float]] = {}  # sign of life, time of the last look, silence

    def lapsed(self, number: int, sign: Any) -> bool:
        """Whether trial `number`, whose worker's latest sign of life is `sign`, has been silent for too long."""
        now = self._clock()
        known = self._seen.get(number)
        if known is None or known[0] != sign:
            self._seen[number] = (sign, now, 0.0)
            return False
        silence = known[2] + min(now - known[1], self._step)
        self._seen[number] = (sign, now, silence)
        return silence >= self._grace


def _machine() -> str:
    """Host name, boot and namespace of process numbers: equal exactly where a process number means the same."""
    boot = _read(_PROC / "sys/kernel/random/boot_id")[:8]
    try:
        space = os.readlink(_PROC / "self/ns/pid").strip("pid:[]")
    except OSError:
        space = ""
    return "-".join(part for part in (platform.node(), boot, space) if part)


def _born(pid: int) -> str:
    """The process' start in clock ticks since boot; empty where the system does not tell."""
    return _stat(pid, 19)


def _is_zombie(pid: int) -> bool:
    return _stat(pid, 0) == "Z"


def _stat(pid: int, field: int) -> str:
    """Field of /proc/PID/stat, counted after the process' name, which may hold spaces and brackets."""
    fields = _read(_PROC / str(pid) / "stat").rpartition(")")[2].split()
    return fields[field] if len(fields) > field else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
