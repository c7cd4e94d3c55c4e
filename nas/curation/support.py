"""What an engine cannot compute at all, whatever it would cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...common.errors import UnsupportedError
from ...models.architecture import Knob, KnobValue
from ..bridge import to_graph
from ..space import Space

if TYPE_CHECKING:
    from ...models.family import Family

_CHANNELS, _CLASSES = 3, 10  # of networks that only show what the engine has operators for


def runnable(space: Space) -> Space:
    """`space` without the values that no operator of an engine computes."""
    kept: dict[str, list[KnobValue]] = {}
    for knob in space.knobs:
        refused = unsupported_values(space.family, knob) if knob.kind == "block" else {}
        if refused:
            kept[knob.name] = [value for value in knob.values if value not in refused]
    return space.restrict(kept, where="the engine's operators")


def unsupported_values(family: Family, knob: Knob) -> dict[KnobValue, str]:
    """The values with which the family's middle architecture cannot run on an engine, and why."""
    refused: dict[KnobValue, str] = {}
    for value in knob.values:
        architecture = family.canonicalise(family.middle().with_values(**{knob.name: value}))
        try:
            to_graph(family.layers(architecture, input_channels=_CHANNELS, classes=_CLASSES))
        except UnsupportedError as error:
            refused[value] = error.what
    return refused
