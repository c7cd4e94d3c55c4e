"""The estimator that a command predicts with: from the cache, or fitted under a progress bar."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..common.errors import EstimatorError, InputError
from .output import Output

if TYPE_CHECKING:
    from ..estimator.network import NetworkEstimator
    from ..models.family import Family
    from ..models.tasks import Task
    from ..targets.spec import EngineSpec


def ready_estimator(
    output: Output, spec: EngineSpec, family: Family, task: Task, path: Path | None = None,
    precisions: tuple[str, ...] = ("int8",),
) -> NetworkEstimator:  # fmt: skip
    """The estimator in `path`, by default in the user's cache; fitted and stored there when absent or outdated."""
    from ..nas.estimators import cached_estimator_path, fit_estimator, open_estimator

    def fit() -> NetworkEstimator:
        name = f"{family.name} in {' and '.join(precisions)}"
        output.note(f"fitting a latency estimator for {name} on {spec.name} (once, kept in {file})")
        with output.bar("measure") as update:

            def measured(done: int, total: int) -> None:
                update(done, total, "subgraphs")

            found = fit_estimator(spec, family, task, precisions=precisions, progress=measured)
        error = found.card.network
        output.note(f"fitted: {error.acc10:.0%} of {found.card.network_count} unseen networks within 10 %")
        return found

    def refit(error: EstimatorError) -> None:
        output.note(f"fitting again: {error.what}")

    def unsaved(error: InputError) -> None:
        output.warn(f"the estimator is not kept and will be fitted again: {error.what} (at {error.where})")

    file = path or cached_estimator_path(spec, family, task, precisions)
    return open_estimator(file, spec, fit, refit, unsaved)
