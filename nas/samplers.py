"""Optuna samplers by name. One is made anew from a seed before every trial, which is what makes a search resumable."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from ..common.registry import Registry

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

SamplerFactory: TypeAlias = "Callable[[int], BaseSampler]"
_FACTORIES = f"{__package__}.sampler_factories"

SAMPLERS: Registry[SamplerFactory] = Registry(
    "sampler",
    {
        **{name: f"{_FACTORIES}:{name}" for name in ("tpe", "nsga2", "random", "gp")},
        "evolution": f"{__package__}.evolution:evolution",
    },
)
