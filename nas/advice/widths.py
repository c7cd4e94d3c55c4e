"""Rules on channels: align them to the lanes, narrow late expansions, shrink the head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .channels import ChannelGroup, channel_groups, set_width
from .draft import Draft
from .rule import Effect, Lanes, Site

_LEAST = 8  # groups narrower than this carry too much in each channel to lose any
_AT_MOST_CUT = 0.34  # of a group's channels: aligning must not turn into shrinking


@dataclass(frozen=True, slots=True)
class AlignChannels:
    """Channels beyond a multiple of the lanes go: for a few channels a step costs as much as for all lanes."""

    name = "align-channels"
    reason = "channels beyond a multiple of the lanes cost a whole step over all lanes"
    effect = Effect.SMALLER

    def sites(self, draft: Draft, lanes: Lanes) -> list[Site]:
        found = []
        for group in _free_groups(draft):
            aligned = group.channels - group.channels % lanes.both
            if group.channels > aligned >= max(_LEAST, (1 - _AT_MOST_CUT) * group.channels):
                found.append(_site(group, aligned))
        return found

    def apply(self, draft: Draft, sites: Sequence[Site]) -> None:
        _set_widths(draft, sites)


@dataclass(frozen=True, slots=True)
class FillLanes:
    """Channels are added up to a multiple of the lanes; they begin as zero."""

    name = "fill-lanes"
    reason = "lanes that idle anyway can work on more channels: more capacity for the same time"
    effect = Effect.SAME

    def sites(self, draft: Draft, lanes: Lanes) -> list[Site]:
        groups = (group for group in _free_groups(draft) if group.channels % lanes.both)
        return [_site(group, -(-group.channels // lanes.both) * lanes.both) for group in groups]

    def apply(self, draft: Draft, sites: Sequence[Site]) -> None:
        _set_widths(draft, sites)


@dataclass(frozen=True, slots=True)
class NarrowExpansion:
    """The inner channels of late inverted bottlenecks go down by a third, to a multiple of the lanes."""

    name = "narrow-expansion"
    reason = "late expansions hold most weights, and reading these is what late layers wait for"
    effect = Effect.SMALLER

    def sites(self, draft: Draft, lanes: Lanes) -> list[Site]:
        inner = [group for group in _free_groups(draft) if group.carriers and len(group.makers) == 1]
        late = inner[len(inner) // 2 :]
        cut = ((group, _aligned(group.channels * 2 / 3, lanes.both)) for group in late)
        return [_site(group, channels) for group, channels in cut if _LEAST <= channels < group.channels]

    def apply(self, draft: Draft, sites: Sequence[Site]) -> None:
        _set_widths(draft, sites)


@dataclass(frozen=True, slots=True)
class ShrinkHead:
    """The layer before the classifier gets half its channels, a multiple of the lanes."""

    name = "shrink-head"
    reason = "the head and the classifier behind it hold many weights that are each used once"
    effect = Effect.SMALLER

    def sites(self, draft: Draft, lanes: Lanes) -> list[Site]:
        found = []
        for group in _free_groups(draft):
            readers = [draft.nodes[name].op_type for name in group.readers]
            channels = _aligned(group.channels / 2, lanes.both)
            if readers and set(readers) <= {"Gemm", "MatMul"} and not group.carriers and channels < group.channels:
                found.append(_site(group, channels))
        return found

    def apply(self, draft: Draft, sites: Sequence[Site]) -> None:
        _set_widths(draft, sites)


def _free_groups(draft: Draft) -> list[ChannelGroup]:
    return [group for group in channel_groups(draft) if not group.fixed and group.makers and group.readers]


def _site(group: ChannelGroup, channels: int) -> Site:
    return Site(group.makers[0], group.nodes, f"{group.channels} to {channels} channels", channels)


def _set_widths(draft: Draft, sites: Sequence[Site]) -> None:
    """Groups are found by their first maker, which no other group has."""
    groups = {group.makers[0]: group for group in _free_groups(draft)}
    for site in sites:
        set_width(draft, groups[site.name], site.option)


def _aligned(channels: float, lanes: int) -> int:
    return max(lanes, round(channels / lanes) * lanes)
