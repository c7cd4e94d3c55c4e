"""A headless Chromium that opens one page, by the DevTools protocol through its pipe: no driver, no port."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# The browser reads commands from descriptor 3 and answers on 4, whatever ours are called.
_START = """
import fcntl, os, sys
pipes = [fcntl.fcntl(int(text), fcntl.F_DUPFD, 10) for text in sys.argv[1:3]]
for wanted, pipe in zip((3, 4), pipes):
    os.dup2(pipe, wanted)
    os.close(pipe)
os.execvp(sys.argv[3], sys.argv[3:])
"""
_PATIENCE_S = 300.0  # on a machine that does much else; nothing is timed


def find_browser() -> str | None:
    """The browser that LANEFIT_BROWSER names, or the first of the usual names on the path."""
    named = os.environ.get("LANEFIT_BROWSER")
    return named or next((found for name in NAMES if (found := shutil.which(name))), None)


@dataclass
class Page:
    """What happened while a page was open."""

    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


class Browser:
    """One tab. Messages are JSON, each ended by a zero byte."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read, self._number, self._rest = write, read, 0, b""
        self.page = Page()
        self.session = ""

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a command; what is told meanwhile goes into `page`."""
        self._number += 1
        wanted = self._number
        message: dict[str, Any] = {"id": wanted, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            found = self._next()
            if found.get("id") == wanted:
                assert "error" not in found, found
                return found["result"]
            self._hear(found)

    def evaluate(self, expression: str) -> Any:
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def open(self, path: Path) -> None:
        """Opens a file and waits until it is complete."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Runtime", "Log", "Network", "Page"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=path.resolve().as_uri())
        until = time.monotonic() + _PATIENCE_S
        while self.evaluate("document.readyState") != "complete" and time.monotonic() < until:
            time.sleep(0.1)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            data = os.read(self._read, 1 << 20)
            assert data, "the browser ended"
            self._rest += data
        first, _, self._rest = self._rest.partition(b"\0")
        return json.loads(first)

    def _hear(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                self.page.complaints.append(json.dumps(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                self.page.complaints.append(json.dumps(params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.page.complaints.append(json.dumps(params["entry"]))
            case "Network.requestWillBeSent" if not params["request"]["url"].startswith("data:"):
                self.page.requests.append(params["request"]["url"])


@contextmanager
def headless(program: str, profile: Path) -> Iterator[Browser]:
    """A browser with a profile of its own in the folder `profile`, ended with the block."""
    to_child, write = os.pipe()
    read, from_child = os.pipe()
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    options += ["--remote-debugging-pipe", f"--user-data-dir={profile}", "--disable-background-networking"]
    command = [sys.executable, "-c", _START, str(to_child), str(from_child), program, *options]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, pass_fds=(to_child, from_child), **quiet)
    os.close(to_child)
    os.close(from_child)
    try:
        yield Browser(write, read)
    finally:
        process.kill()
        process.wait()
        os.close(write)
        os.close(read)
