"""Curation: the values of every knob that are worth considering on a target, found by evaluating its cost.

Latency over the number of channels is a staircase: lanes work in blocks, and a block that is begun is paid for. On one
step the largest count is the only one worth having, since every smaller one costs the same. Other knobs have their
own bad bargains: values that cost more and do less, or cost the same, or whose cost goes up and down with the rest of
the network. `curate` probes every knob on a target's cost model and keeps the rest in the order of cost.
"""

from .costs import CostModel, Sampler, TargetCosts
from .kept import Curated, KeptCuration, curation_key, keep_curation, kept_curation
from .report import CurationReport, Dropped, KnobCuration
from .space import curate
from .support import runnable, unsupported_values
from .targets import device_costs, engine_costs, live_costs

__all__ = [
    "CostModel",
    "Curated",
    "CurationReport",
    "Dropped",
    "KeptCuration",
    "KnobCuration",
    "Sampler",
    "TargetCosts",
    "curate",
    "curation_key",
    "device_costs",
    "engine_costs",
    "keep_curation",
    "kept_curation",
    "live_costs",
    "runnable",
    "unsupported_values",
]
