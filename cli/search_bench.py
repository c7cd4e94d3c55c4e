"""What `lanefit search` works with, whether it begins a search, resumes one or joins one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ..common.errors import InputError

if TYPE_CHECKING:
    from ..nas.config import SearchConfig
    from ..nas.curation import CurationReport, KeptCuration
    from ..nas.session import Step
    from ..nas.workbench import ModelWorkbench
    from ..targets.spec import EngineSpec
    from .output import Output


@dataclass(frozen=True, slots=True)
class Ready:
    """A workbench, and the facts on which a search's results depend."""

    bench: ModelWorkbench
    curation: CurationReport | None
    spec: EngineSpec
    facts: dict[str, Any]


def ready_bench(output: Output, settings: SearchConfig, kept: KeptCuration | None = None) -> Ready:
    """The workbench that `settings` describe; every name and value is checked before an estimator is fitted.

    `kept` is the curation of an earlier sitting, or of the search that is joined; else the user's cache may hold it.
    """
    from ..models.registry import families, find_task
    from ..nas.energy import energy_model
    from ..nas.measure import engine_measure
    from ..nas.workbench import check_settings, workbench
    from ..targets.spec import load_spec
    from .estimators import ready_estimator

    check_settings(settings)
    energy = energy_model(settings)
    spec, family, task = load_spec(settings.target), families.get(settings.family), find_task(settings.task)
    estimator = ready_estimator(output, spec, family, task)
    bench, curation = workbench(settings, estimator, spec, measure=engine_measure(spec), kept=partial(_kept, kept))
    if bench.curation is not None:
        _keep(output, bench.curation)
    facts: dict[str, Any] = {"target_digest": spec.digest(), "estimator_data": estimator.card.data_hash}
    if energy is not None:
        facts["energy_data"] = energy.data_hash
    if curation is not None:
        facts["curation"] = curation.as_dict()
    return Ready(bench, curation, spec, facts)


def _kept(given: KeptCuration | None, key: str) -> KeptCuration | None:
    from ..nas.curation import kept_curation
    from ..nas.estimators import cached_curation_path

    return given if given is not None and given.key == key else kept_curation(cached_curation_path(key))


def _keep(output: Output, found: KeptCuration) -> None:
    from ..nas.curation import keep_curation
    from ..nas.estimators import cached_curation_path

    path = cached_curation_path(found.key)
    try:
        if not os.path.exists(path):
            keep_curation(path, found)
    except InputError as error:
        output.warn(f"the curated space is not kept and will be probed again: {error.what} (at {error.where})")


@contextmanager
def bar_progress(output: Output) -> Iterator[Callable[[Step], None]]:
    """A search's progress as a bar on a terminal."""
    with output.bar("search") as update:

        def progress(step: Step) -> None:
            update(step.done, step.total, f"{step.stage}: {step.text}")

        yield progress
