"""The MODEL argument: a family, a baseline, a search's winner, a package or an ONNX file."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from ..common.errors import ConfigError, InputError, UnknownNameError

if TYPE_CHECKING:
    from torch import nn

    from ..models.architecture import Architecture
    from ..models.layers import LayerSpec
    from ..models.tasks import Task

DEFAULT_TASK = "digits"
_BASELINE = re.compile(r"mobilenet-v2(?:-(\d+(?:\.\d+)?)-(\d+))?")
_ACCEPTED = (
    "accepted: a family (see `lanefit list families`), baseline, mobilenet-v2-WIDTH-RESOLUTION, "
    "a run directory, an architecture *.toml or *.json, a *.lanefit package, or an *.onnx file"
)


class ModelKind(StrEnum):
    """What a MODEL argument turned out to be."""

    ARCHITECTURE = "architecture"
    PACKAGE = "package"
    ONNX = "onnx"


@dataclass(frozen=True, slots=True)
class Model:
    """A resolved MODEL. `architecture` and `task` are set for architectures, `path` for files.

    `weights` is the file of trained weights, None for a network that was never trained; `target` is what a
    search was for.
    """

    kind: ModelKind
    name: str
    path: Path | None = None
    architecture: Architecture | None = None
    task_name: str = DEFAULT_TASK
    weights: Path | None = None
    target: str = ""

    def task(self) -> Task:
        from ..models.registry import find_task

        return find_task(self.task_name)

    def layers(self) -> tuple[LayerSpec, ...]:
        """The layers of an architecture, for the channels and classes of its task."""
        from ..models.registry import families

        assert self.architecture is not None
        task, family = self.task(), families.get(self.architecture.family)
        return family.layers(self.architecture, input_channels=task.channels, classes=task.classes)

    def module(self) -> nn.Module:
        """The module of an architecture, with its trained weights where there are any."""
        from ..models.registry import families
        from ..nas.weights import load_weights

        assert self.architecture is not None
        task, family = self.task(), families.get(self.architecture.family)
        module = family.build(self.architecture, input_channels=task.channels, classes=task.classes)
        if self.weights is not None:
            load_weights(module, self.weights)
        return module.eval()


def resolve(text: str, *, architecture: Path | None = None, task: str = "") -> Model:
    """What `text` names. `architecture` is a file for a family; `task` overrides the one that a search was for.

    Raises:
        UnknownNameError: `text` is none of the accepted forms; the hint lists them.
    """
    path = Path(text)
    if architecture is not None:
        return _from_file(text, architecture, task)
    if path.suffix == ".onnx":
        return Model(ModelKind.ONNX, path.stem, path)
    if path.suffix == ".lanefit":
        return Model(ModelKind.PACKAGE, path.stem, path)
    if path.suffix in (".toml", ".json"):
        return _of_architecture(path.stem, _read(path), task)
    if path.is_dir():
        return _winner(path, task)
    return _named(text, task)


def _named(text: str, task: str) -> Model:
    from ..models.baselines import mobilenet_v2
    from ..models.registry import families

    if text in families:
        return _of_architecture(text, families.get(text).middle(), task)
    match = _BASELINE.fullmatch("mobilenet-v2" if text == "baseline" else text)
    if match is None:
        error = UnknownNameError("model", text, [*families, "baseline", "mobilenet-v2"])
        close = error.hint.partition("known:")[0]
        raise InputError(error.what, hint=f"{close}{_ACCEPTED}")
    return _of_architecture(text, mobilenet_v2(float(match[1]), int(match[2])) if match[1] else mobilenet_v2(), task)


def _from_file(text: str, file: Path, task: str) -> Model:
    from ..models.registry import families

    found = _read(file)
    families.get(text)
    if found.family != text:
        raise ConfigError(f"the architecture is of family {found.family!r}, not {text!r}", where=f"{file}:family")
    return _of_architecture(file.stem, found, task)


def _read(file: Path) -> Architecture:
    from ..models.architecture import read_architecture

    return read_architecture(file)


def _winner(path: Path, task: str) -> Model:
    from ..nas.config import load_config
    from ..nas.rundir import RunDirectory

    run = RunDirectory(path)
    if not run.record.exists():
        raise InputError("this folder holds no search", where=str(path), hint=_ACCEPTED)
    winner = run.result().winner
    if winner is None:
        raise InputError("this search found no winner", where=str(path), hint="search again with a larger budget")
    config = load_config(run.config_file)
    weights = path / winner.weights if winner.weights else None
    found = _of_architecture(path.name, winner.architecture, task or config.task)
    return replace(found, weights=weights, target=config.target)


def _of_architecture(name: str, architecture: Architecture, task: str) -> Model:
    return Model(ModelKind.ARCHITECTURE, name, None, architecture, task or DEFAULT_TASK)
