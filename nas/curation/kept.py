"""A curation that was made once, kept beside the search that it serves (`curation.json` of a run directory) and in the
user's cache.

Probing a target takes seconds, which a resume, a further worker or the next search need not spend again. What a
curation follows from (family, values, target, estimator, shape of the task, and the code that probes and costs) is its
key: one that was kept under another key is not looked at.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

from ...common.errors import ConfigError
from ...common.files import read_json, sha256, stable_hash, write_json
from ...estimator.network import NetworkEstimator
from ..scoring import Estimator
from ..space import Space
from .report import CurationReport

_SCHEMA = 1
_PACKAGES = ("estimator", "export", "kernels", "models", "targets", "nas/curation")
_MODULES = ("nas/bridge.py", "nas/space.py")


@dataclass(frozen=True, slots=True)
class KeptCuration:
    """What curation found, and the key of what it followed from."""

    key: str
    report: CurationReport

    def as_dict(self) -> dict[str, Any]:
        return {"key": self.key, "report": self.report.as_dict()}

    @classmethod
    def from_dict(cls, values: Any, *, where: str) -> KeptCuration:
        """The inverse of `as_dict`, from JSON; `ConfigError` for anything else."""
        try:
            key, report = values["key"], values["report"]
            return cls(str(key), CurationReport.from_dict(report))
        except (KeyError, TypeError, ValueError) as error:
            hint = "delete it: the space is then curated again"
            raise ConfigError(f"no curation that lanefit kept: {error!r}", where=where, hint=hint) from error

    def space(self, full: Space) -> Space:
        """`full` with the values that were kept, in the order of their cost."""
        kept = {knob.knob: knob.kept for knob in self.report.knobs}
        missing = [knob.name for knob in full.knobs if knob.name not in kept]
        if missing:
            raise ConfigError(f"the kept curation says nothing of {', '.join(missing)}", where="curation")
        return full.restrict(kept, where="curation", ordered=True)


Keeper: TypeAlias = Callable[[str], KeptCuration | None]
"""What is kept under a key, if anything; what has another key is not used."""


def nothing_kept(key: str) -> KeptCuration | None:
    return None


@runtime_checkable
class Curated(Protocol):
    """A workbench that knows how its space was curated; None where it was not, or where nothing identifies it."""

    @property
    def curation(self) -> KeptCuration | None: ...


def curation_key(
    space: Space, target: str, estimator: Estimator, shape: Mapping[str, int], leave: Collection[str]
) -> str | None:
    """What a curation of `space` for the target of digest `target` follows from, as one word.

    None for an estimator that is not told apart from others by the data it was fitted on.
    """
    if not isinstance(estimator, NetworkEstimator):
        return None
    knobs = [[knob.name, knob.kind, [[type(value).__name__, value] for value in knob.values]] for knob in space.knobs]
    card = estimator.card
    fitted = [card.toolchain, card.data_hash, card.seed, card.trees]
    return stable_hash([_SCHEMA, space.family.name, knobs, target, fitted, dict(shape), sorted(leave), _code_digest()])


def keep_curation(path: Path, found: KeptCuration) -> None:
    write_json(path, found.as_dict())


def kept_curation(path: Path) -> KeptCuration | None:
    """The curation in `path`; None where there is none, `ConfigError` where there is something else."""
    return KeptCuration.from_dict(read_json(path), where=str(path)) if os.path.exists(path) else None


@lru_cache(maxsize=1)
def _code_digest() -> str:
    """Of every source file that costs or probes an architecture."""
    root = Path(__file__).parents[2]
    files = [path for package in _PACKAGES for path in sorted((root / package).rglob("*.py"))]
    files += [root / module for module in _MODULES]
    return stable_hash([[path.relative_to(root).as_posix(), sha256(path.read_bytes())] for path in files])
