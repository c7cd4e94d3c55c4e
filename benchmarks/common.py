"""What every benchmark script shares: options, the environment record, and the JSON file."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lanefit.common.environment import environment, versions
from lanefit.common.files import write_json


def parser(description: str | None, *, seed: int | None = 0) -> argparse.ArgumentParser:
    """A parser with the options that all scripts have: `--json FILE` and, where it applies, `--seed N`."""
    found = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--json", type=Path, metavar="FILE", help="write figures and environment to FILE")
    if seed is not None:
        found.add_argument("--seed", type=int, default=seed, help="root of all random streams (default: %(default)s)")
    return found


def finish(path: Path | None, figures: Mapping[str, Any], **seeds: int) -> None:
    """Writes the figures with the environment when the user asked for a file."""
    if path is not None:
        record = {**environment(), "versions": versions(), "seeds": seeds}
        write_json(path, {**figures, "environment": record})
