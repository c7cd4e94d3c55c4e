"""A search that several processes work on: what the first one leaves in the storage, and what those do that join.

The first one, with a run directory, stores configuration and facts under the study's name. Workers find them there, run
trials until the budget of trials is met, and leave. The first one runs trials too; when all are finished it trains
the finalists and chooses the winner. If it died, resuming its run directory does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import optuna
from pydantic import ValidationError

from ..common.errors import ConfigError, InputError, Interrupted
from ..common.files import canonical_json
from .config import SearchConfig
from .curation import KeptCuration
from .rundir import RunDirectory
from .scoring import Workbench
from .search import DIRECTIONS, check_config, sampler_name
from .session import Assess, Progress, Session
from .storage import Place, open_storage, storage_errors
from .study import SHARED_NOTE, Direction, Propose, open_study


@dataclass(frozen=True, slots=True)
class SharedSearch:
    """A search found in a storage. `config.seed` is set; `curation` is that of its space, if it was kept."""

    name: str
    config: SearchConfig
    facts: Mapping[str, Any]
    curation: KeptCuration | None = None


def find_shared(place: Place, name: str = "") -> SharedSearch:
    """The search `name` at `place`, or the only one there.

    Raises:
        ConfigError: there is none, or none of that name, or several and no name was given.
        InputError: the storage cannot be read.
    """
    with open_storage(place) as storage, storage_errors(place):
        studies = {study.study_name: study.user_attrs for study in optuna.get_all_study_summaries(storage=storage)}
    searches = {study: attributes[SHARED_NOTE] for study, attributes in studies.items() if SHARED_NOTE in attributes}
    if (name and name not in searches) or not searches:
        what = f"no search {name!r}" if name else "no search"
        known = f"known: {', '.join(sorted(searches))}" if searches else "start one: the same without --worker"
        raise ConfigError(f"{what} to join at {place.shown}", where="--storage", hint=known)
    if not name and len(searches) > 1:
        names = ", ".join(sorted(searches))
        raise ConfigError(f"{len(searches)} searches at {place.shown}", where="--name", hint=f"name one of {names}")
    return _read(name or next(iter(searches)), searches[name or next(iter(searches))], place)


def run_worker(
    shared: SharedSearch,
    place: Place,
    bench: Workbench,
    run: RunDirectory,
    *,
    progress: Progress,
    facts: Mapping[str, Any],
) -> int:
    """Runs trials of `shared` until all are finished, by whomever; the number of those that were finished here.

    `run` takes the weights of what is trained on the way. `facts` must be those of the search: a worker with another
    target or another estimator would cost candidates differently.

    Raises:
        ConfigError: other facts.
        InputError: the storage cannot be reached, or a trial ended too many workers.
        Interrupted: on Ctrl-C; the trial at work goes to another worker.
    """
    _check_facts(shared, facts)
    strategy, config = check_config(shared.config), shared.config
    assert config.seed is not None
    directions: list[Direction] = [DIRECTIONS[objective] for objective in config.objectives]
    sampler = sampler_name(config, strategy)
    with open_study(
        place,
        sampler=sampler,
        directions=directions,
        seed=config.seed,
        name=shared.name,
        shared=True,
        pruner=config.pruner,
    ) as study:
        try:
            strategy.run(_WorkerSession(config, bench, study, run, progress))
        except _TrialsDone:
            return study.finished_here
        except KeyboardInterrupt:
            hint = "the trial at work goes to another worker; join again with the same command"
            raise Interrupted(f"left after {study.finished_here} trials", where=place.shown, hint=hint) from None
    raise InputError(f"strategy {strategy.name} has no trials that workers could share", hint="run it without --worker")


class _TrialsDone(Exception):
    """All trials of the study are finished; what follows is not a worker's business."""


class _WorkerSession(Session):
    def explore(
        self,
        assess: Assess,
        *,
        total: int | None = None,
        propose: Propose | None = None,
        enough: Callable[[], bool] | None = None,
    ) -> NoReturn:
        super().explore(assess, total=total, propose=propose, enough=enough)
        raise _TrialsDone


def _read(name: str, stored: Mapping[str, Any], place: Place) -> SharedSearch:
    try:
        config = SearchConfig.model_validate(stored["config"])
        known = stored.get("curation")
        curation = KeptCuration.from_dict(known, where=place.shown) if known else None
        return SharedSearch(name, config, dict(stored["facts"]), curation)
    except (KeyError, TypeError, ValidationError) as error:
        problem = f"search {name!r} was stored by another version of lanefit: {str(error).splitlines()[0]}"
        raise ConfigError(problem, where=place.shown) from error


def _check_facts(shared: SharedSearch, facts: Mapping[str, Any]) -> None:
    names = sorted({*shared.facts, *facts})
    other = [name for name in names if canonical_json(shared.facts.get(name)) != canonical_json(facts.get(name))]
    if other:
        hint = "give this machine the same lanefit, target file, data and estimator (folder LANEFIT_CACHE)"
        raise ConfigError(f"{', '.join(other)} differ from those of search {shared.name!r}", hint=hint)
