"""`lanefit curate`: which values of a family's knobs are worth searching on a target."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..common.errors import ConfigError
from .command import command
from .options import ProfileTargetOption, TaskOption
from .output import Output

if TYPE_CHECKING:
    from ..models.family import Family
    from ..models.tasks import Task
    from ..nas.curation import CostModel

TASK = "digits"


@command
def curate(
    output: Output,
    family: Annotated[str, typer.Argument(metavar="FAMILY", help="See `lanefit list families`.", show_default=False)],
    target: ProfileTargetOption = "",
    task: TaskOption = TASK,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE.toml", help="Write the space for `lanefit search --config`.", show_default=False
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--picture", metavar="FILE.png", help="Draw the landscape, and FILE.html beside it.", show_default=False
        ),
    ] = None,
    steps: Annotated[int, typer.Option("--steps", help="Of the walks that measure ruggedness; 0: none.", min=0)] = 500,
) -> int:
    """Find the values of every knob that are worth searching on a target, by cost, and say why the others go."""
    from ..models.registry import families, find_task
    from ..nas.curation import Sampler, curate
    from ..nas.curation.files import write_curated
    from ..nas.curation.walks import ordered_by_work, ruggedness
    from ..nas.space import Space
    from .curate_report import curation_document, curation_tables

    _check_names(target, out, picture)
    of, found = families.get(family), find_task(task)
    costs, channels, classes = costs_of(output, target, of, found), found.channels, found.classes
    full = Space.of(of)
    with output.bar("curate") as update:
        update(0, 0, "probing every knob")
        curated, report = curate(full, costs, input_channels=channels, classes=classes)
        sample = Sampler(of, costs, input_channels=channels, classes=classes)
        before = ordered_by_work(full, input_channels=channels, classes=classes)
        update(0, 0, "walking")
        spaces = {"before, by work": before, "before, as listed": full, "after": curated} if steps else {}
        walks = {name: ruggedness(space, sample, steps=steps) for name, space in spaces.items()}
        files = _draw(costs.target, before, curated, sample, picture) if picture else []
    if out is not None:
        engine = "" if target.endswith(".json") else target
        files.append(write_curated(curated, report, out, target=engine, task=task))
    names = [str(path) for path in files]
    output.result(curation_document(report, walks, names), *curation_tables(report, walks, names))
    return 0


def costs_of(output: Output, target: str, family: Family, task: Task) -> CostModel:
    """The cost model of an engine, by name or TOML, or of a calibrated device or runtime, by its file."""
    from ..nas.curation import device_costs, engine_costs
    from ..targets.spec import load_spec
    from .estimators import ready_estimator
    from .live_calibration import is_live_file

    if not target.endswith(".json"):
        spec = load_spec(target)
        return engine_costs(spec, ready_estimator(output, spec, family, task))
    if is_live_file(Path(target)):
        return _live(Path(target))
    from ..estimator.devices.files import load_device

    return device_costs(load_device(Path(target)))


def _live(path: Path) -> CostModel:
    from ..estimator.live.files import load_device
    from ..nas.curation import live_costs
    from .live_profile import runner_for

    calibrated = load_device(path)
    return live_costs(calibrated, runner_for(calibrated.toolchain, path))


def _check_names(target: str, out: Path | None, picture: Path | None) -> None:
    """Refuses what could only fail after a minute of work."""
    if not target:
        raise ConfigError("curation needs a target", where="--target", hint="see `lanefit list targets`")
    for path, suffix, option in ((out, ".toml", "--out"), (picture, ".png", "--picture")):
        if path is not None and path.suffix != suffix:
            raise ConfigError(f"{path.name} does not end in {suffix}", where=option)


def _draw(target: str, before: Any, after: Any, sample: Any, picture: Path) -> list[Path]:
    from ..nas.curation.landscape import draw_landscapes, landscapes, write_landscapes

    found = landscapes(target, before, after, sample)
    heading = f"{before.family.name} on {target}: cost over two directions, relative to the lowest, as powers of two"
    return [draw_landscapes(found, picture), write_landscapes(found, picture.with_suffix(".html"), heading=heading)]
