"""What every benchmark script shares: options, the environment record, and the JSON file."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lanefit.common.files import write_json

_PACKAGES = ("lanefit", "numpy", "torch", "onnx", "onnxruntime", "apache-tvm", "scikit-learn", "optuna")


def parser(description: str | None, *, seed: int | None = 0) -> argparse.ArgumentParser:
    """A parser with the options that all scripts have: `--json FILE` and, where it applies, `--seed N`."""
    found = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--json", type=Path, metavar="FILE", help="write figures and environment to FILE")
    if seed is not None:
        found.add_argument("--seed", type=int, default=seed, help="root of all random streams (default: %(default)s)")
    return found


def environment(**seeds: int) -> dict[str, Any]:
    """Versions, cores, load and seeds: what a reader needs to judge or repeat a figure."""
    versions: dict[str, str] = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "absent"
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "load_average": list(os.getloadavg()),
        "versions": versions,
        "seeds": seeds,
    }


def finish(path: Path | None, figures: Mapping[str, Any], **seeds: int) -> None:
    """Writes the figures with the environment when the user asked for a file."""
    if path is not None:
        write_json(path, {**figures, "environment": environment(**seeds)})
