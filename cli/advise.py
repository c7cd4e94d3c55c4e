"""`lanefit advise`: what an expert would change about a network, and what each change brings on a target."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .command import command
from .options import ArchitectureOption, InputShapeOption, ModelArgument, ProfileTargetOption, TaskOption, parse_shape
from .output import Output

if TYPE_CHECKING:
    from ..nas.advice.advise import Advice
    from ..nas.advice.judges import Judge
    from ..nas.advice.subjects import ArchitectureSubject, ModelSubject
    from .model_argument import Model


@command
def advise(
    output: Output,
    model: ModelArgument,
    target: ProfileTargetOption = "",
    architecture: ArchitectureOption = None,
    task: TaskOption = "",
    input_shape: InputShapeOption = "",
    rule: Annotated[
        list[str] | None,
        typer.Option("--rule", metavar="NAME", help="Try this rule only; repeatable.", show_default=False),
    ] = None,
    keep_capacity: Annotated[
        bool, typer.Option("--keep-capacity", help="Leave out rules that make the network smaller.")
    ] = False,
    apply: Annotated[
        Path | None,
        typer.Option(
            "--apply",
            metavar="FILE",
            help="Write the network with all changes: *.onnx for a model, *.toml or *.json for an architecture.",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Rank changes that would make a network cheaper on a target: each with its reason, its gain, and what it risks."""
    from ..nas.advice.advise import advise as seek
    from .advise_report import advice_document, advice_tables
    from .model_argument import resolve

    found = resolve(model, architecture=architecture, task=task)
    if apply is not None:
        check_destination(found, apply)
    judge = judge_of(found, target)
    subject = subject_of(found, parse_shape(input_shape))
    with output.bar("advise") as update:
        advice = seek(subject, judge, rules=rule or (), keep_capacity=keep_capacity, progress=update)
    if apply is not None:
        _write(output, advice, apply)
    document = advice_document(found.name, judge.name, advice)
    shown = advice_tables(found.name, judge.name, advice)
    command = search_command(subject, target or judge.name, apply) if advice.together else ""
    if command:
        document["next"] = command
        shown.append(f"to try all together as the first trial of a search: {command}")
    output.result(document, *shown)
    return 0


def search_command(subject: ModelSubject | ArchitectureSubject, target: str, written: Path | None) -> str:
    """The search whose first trial is the changed architecture; none for ONNX models and devices."""
    from ..nas.advice.subjects import ModelSubject

    if isinstance(subject, ModelSubject) or target.endswith(".json"):
        return ""
    search = f"lanefit search --family {subject.family.name} --target {target}"
    return f"{search} --enqueue {written}" if written else f"{search} --enqueue FILE, which --apply FILE writes"


def judge_of(model: Model, target: str) -> Judge:
    """The engine or calibrated device called `target`; without a name, the engine that a search was for."""
    from ..nas.advice.judges import DeviceJudge, EngineJudge

    if target.endswith(".json"):
        from ..estimator.devices.files import load_device

        return DeviceJudge(load_device(Path(target)))
    from .model_profile import target_of

    return EngineJudge(target_of(model, target))


def subject_of(model: Model, input_shape: tuple[int, ...] | None) -> ModelSubject | ArchitectureSubject:
    """What advice is given on: the architecture, or the simplified ONNX model."""
    from ..common.errors import ConfigError
    from ..export.onnx_export import simplify
    from ..export.onnx_model import load_model
    from ..nas.advice.subjects import ArchitectureSubject, ModelSubject
    from .model_argument import ModelKind

    if model.kind is ModelKind.ARCHITECTURE and model.architecture is not None:
        from ..models.registry import families

        wanted = model.task()
        family = families.get(model.architecture.family)
        return ArchitectureSubject(family, model.architecture, wanted.channels, wanted.classes)
    if model.kind is ModelKind.ONNX and model.path is not None:
        return ModelSubject(simplify(load_model(model.path), input_shape))
    raise ConfigError("a package cannot be changed any more", where="MODEL", hint="give the ONNX file it was made from")


def check_destination(model: Model, path: Path) -> None:
    """Raises `ConfigError` for a file of the wrong kind, before any work is done."""
    from ..common.errors import ConfigError
    from .model_argument import ModelKind

    suffixes = (".onnx",) if model.kind is ModelKind.ONNX else (".toml", ".json")
    if path.suffix not in suffixes:
        raise ConfigError(
            f"{path.name} is no file for this kind of model", where="--apply", hint=f"name it *{' or *'.join(suffixes)}"
        )


def _write(output: Output, advice: Advice[Any], path: Path) -> None:
    from ..common.files import write_atomic
    from ..export.onnx_model import model_bytes
    from ..nas.advice.rule import Effect
    from ..nas.advice.subjects import ModelSubject

    if not advice.together:
        output.warn(f"nothing to change, so {path.name} is not written")
        return
    changed = advice.together[-1].subject
    if isinstance(changed, ModelSubject):
        write_atomic(path, model_bytes(changed.model))
    else:
        found = changed.architecture
        write_atomic(path, (found.to_toml() if path.suffix == ".toml" else found.to_json()).encode())
    retrain = [item.rule for item in advice.together if item.effect is not Effect.SAME]
    if retrain and isinstance(changed, ModelSubject):
        output.warn(f"{path.name} must be trained again: {', '.join(retrain)} changed what it computes")
