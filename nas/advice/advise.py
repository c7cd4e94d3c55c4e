"""`advise`: which rules would make a model cheaper on a target, by how much, alone and together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ...common.errors import ConfigError, ModelError, UnsupportedError
from .judges import Costing, Judge, Share
from .rule import Effect, Rule, Site
from .subjects import Subject

WORTH = 0.005  # of the latency: what saves less is not worth a retraining
PAYS = 0.0005  # of the latency, at one site
_NEAR = 1.002  # what is added for nothing may cost this much

_FILL = "fill-lanes"  # the one rule that adds work where it is free
Progress = Callable[[int, int, str], None]


_REFUSALS = (ConfigError, ModelError, UnsupportedError)
S = TypeVar("S", bound=Subject)


@dataclass(frozen=True, slots=True)
class Suggestion(Generic[S]):
    """One rule at the sites where it pays, and the whole network after it."""

    rule: str
    reason: str
    effect: Effect
    sites: tuple[Site, ...]
    left_out: int
    after: Costing
    subject: S = field(repr=False, compare=False)

    def gain(self, before: Costing) -> float:
        """Share of the latency that goes away."""
        return 1 - self.after.latency_us / before.latency_us


@dataclass(frozen=True, slots=True)
class Advice(Generic[S]):
    """`alone` ranked by what each rule saves by itself; `together` in the order in which they were applied, each with
    the network after it and all before; `refused` are rules that found sites but gave no valid network, and why."""

    before: Costing
    alone: tuple[Suggestion[S], ...]
    together: tuple[Suggestion[S], ...]
    refused: dict[str, str]

    @property
    def after(self) -> Costing:
        return self.together[-1].after if self.together else self.before

    @property
    def gain(self) -> float:
        """Share of the latency that goes away when all suggestions are followed."""
        return 1 - self.after.latency_us / self.before.latency_us


def advise(
    subject: S, judge: Judge, *, rules: Iterable[str] = (), keep_capacity: bool = False,
    progress: Progress = lambda done, total, text: None,
) -> Advice[S]:  # fmt: skip
    """Tries every rule, or `rules`, on a network.

    Together: the rules that pay alone, those that keep most capacity first and of those the one that saves most, each
    on what the ones before left; it stays if it still saves something. With `keep_capacity` rules that make the network
    smaller are left out of both.

    Raises:
        ModelError: the model is quantised, or has shapes that are not static.
        UnknownNameError: a rule that there is not.
    """
    chosen = [subject.rules.get(name) for name in (list(rules) or subject.rules.names())]
    chosen = [rule for rule in chosen if not (keep_capacity and rule.effect is Effect.SMALLER)]
    before = subject.cost(judge)
    alone: list[Suggestion[S]] = []
    refused: dict[str, str] = {}
    for number, rule in enumerate(chosen):
        progress(number, 2 * len(chosen), rule.name)
        try:
            found = suggest(subject, before, rule, judge)
        except _REFUSALS as error:
            refused[rule.name] = str(error)
            continue
        if found is not None:
            alone.append(found)
    alone.sort(key=lambda item: (item.after.cpu_operators, item.after.latency_us))
    ordered = sorted((item for item in alone if _saves(item, before)), key=lambda item: _ORDER[item.effect])
    paying = [next(rule for rule in chosen if rule.name == item.rule) for item in ordered]

    def second_half(number: int, text: str) -> None:
        progress(len(chosen) + number, 2 * len(chosen), text)

    together = _together(subject, before, paying, judge, second_half)
    return Advice(before, tuple(alone), tuple(together), refused)


_ORDER = {Effect.SAME: 0, Effect.RETRAIN: 0, Effect.SMALLER: 1}


def suggest(subject: S, before: Costing, rule: Rule[Any], judge: Judge) -> Suggestion[S] | None:
    """The rule at the sites where it pays; None where it has none, or nothing comes of it."""
    sites = subject.sites(rule, judge.lanes)
    paying = _paying(subject, before, rule, sites, judge) if len(sites) > 1 else sites
    if not paying:
        return None
    changed = subject.applied(rule, paying)
    after = changed.cost(judge)
    found = Suggestion(rule.name, rule.reason, rule.effect, tuple(paying), len(sites) - len(paying), after, changed)
    return found if _saves(found, before) or _is_free(found, before) else None


def _together(
    subject: S, before: Costing, rules: Sequence[Rule[Any]], judge: Judge, progress: Callable[[int, str], None]
) -> list[Suggestion[S]]:
    found: list[Suggestion[S]] = []
    for number, rule in enumerate(rules):
        progress(number, rule.name)
        try:
            item = suggest(subject, before, rule, judge)
        except _REFUSALS:
            continue  # a rule that has nothing valid left to do after the others; alone it is listed
        if item is not None and _saves(item, before):
            found.append(item)
            subject, before = item.subject, item.after
    return found


def _paying(subject: Subject, before: Costing, rule: Rule[Any], sites: Sequence[Site], judge: Judge) -> list[Site]:
    """The sites at which the latency falls (of what is free: does not rise)."""
    limit = -(_NEAR - 1) / len(sites) if rule.name == _FILL else PAYS
    if not before.shares:
        gains = [1 - subject.applied(rule, [site]).cost(judge).latency_us / before.latency_us for site in sites]
    else:
        after = subject.applied(rule, sites).cost(judge)
        if after.cpu_operators < before.cpu_operators:
            return list(sites)
        gains = [local_gain_us(site.before, before.shares, after.shares) / before.latency_us for site in sites]
    return [site for site, gain in zip(sites, gains, strict=True) if gain > limit]


def local_gain_us(names: Iterable[str], before: Sequence[Share], after: Sequence[Share]) -> float:
    """What the pieces that hold these operators, or share a piece with one that does, take less after than before."""
    reached = set(names)
    while True:
        touched = [[share for share in shares if share.operators & reached] for shares in (before, after)]
        wider = reached.union(*(share.operators for shares in touched for share in shares))
        if wider == reached:
            first, second = (sum(share.latency_us for share in shares) for shares in touched)
            return first - second
        reached = wider


def _saves(found: Suggestion[Any], before: Costing) -> bool:
    fewer = found.after.cpu_operators < before.cpu_operators
    return fewer or (found.after.cpu_operators == before.cpu_operators and found.gain(before) >= WORTH)


def _is_free(found: Suggestion[Any], before: Costing) -> bool:
    """More capacity for no time."""
    return found.after.macs > before.macs and found.after.latency_us <= _NEAR * before.latency_us
