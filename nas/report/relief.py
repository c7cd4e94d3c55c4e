"""The landscape of the space that was searched: work, cost on the target, and that cost once curated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...models.registry import families
from ...models.tasks import Task
from ..config import SearchConfig
from ..curation.costs import CostModel, Sampler
from ..curation.landscape import Landscape, landscapes
from ..curation.walks import ordered_by_work
from ..space import Space

Relief = tuple[Landscape, ...]


def relief(config: SearchConfig, curation: Mapping[str, Any] | None, costs: CostModel, task: Task) -> Relief:
    """Three landscapes, or the first two for a search without `curation` (as its facts hold it).

    Networks are costed a few hundred times for each.
    """
    family = families.get(config.family)
    shape = {"input_channels": task.channels, "classes": task.classes}
    full = Space.of(family).restrict(config.knobs, where="knobs")
    before, sample = ordered_by_work(full, **shape), Sampler(family, costs, **shape)
    if not curation:
        return landscapes(costs.target, before, before, sample)[:2]
    kept = {str(knob["knob"]): knob["kept"] for knob in curation["knobs"]}
    return landscapes(costs.target, before, Space.of(family).restrict({**kept, **config.knobs}, ordered=True), sample)
