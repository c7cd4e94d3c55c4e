"""Search strategies by name; `base` says what one is, `conformance.StrategyConformance` what each must satisfy."""

from .base import STRATEGIES, Outcome, Strategy

__all__ = ["STRATEGIES", "Outcome", "Strategy"]
