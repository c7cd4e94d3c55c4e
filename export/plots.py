"""`lanefit profile --plots`: what lies in SRAM when, and the roofline, as PNG files with their data beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.drawing import BLUE, GREEN, GREY, ORANGE, RED, SKY, bound_colour, bound_legend, new_figure, save_png
from ..common.errors import InputError
from ..common.files import write_json
from ..common.labels import short_label
from ..kernels.kernel import Role
from ..targets.spec import EngineSpec
from .occupancy import MAP, Level, Span, levels
from .profiling import Profile
from .roofline import RoofPoint, bandwidth, roof, roof_points, worst

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_KINDS = {MAP: BLUE, Role.WEIGHTS: ORANGE, Role.INCOMING: GREEN, Role.OUTGOING: RED, Role.ROLLING: SKY}
_NAMED_SPANS = 16  # rectangles with a name: the largest by bytes × time
_LETTERS_ACROSS, _LEAST_LETTERS = 210, 12
_KIB = 1024


def write_plots(profile: Profile, folder: Path, *, name: str, top: int = 5) -> list[Path]:
    """Writes `sram` and `roofline`, each as .png and .json, and returns the four paths; `top` layers are named.

    Raises:
        InputError: nothing of the network runs on the engine, or the folder cannot be written to.
    """
    if not profile.compiled:
        raise InputError("nothing runs on the engine, so there is nothing to plot", where=name)
    found, points = profile.sram_spans(), roof_points(profile.rows(), profile.spec)
    documents = {"sram": _sram_document(profile, found), "roofline": _roofline_document(profile.spec, points, top)}
    paths = [draw_sram(profile, found, folder / "sram.png", title=f"{name} on {profile.spec.name}")]
    paths.append(draw_roofline(profile.spec, points, folder / "roofline.png", title=name, top=top))
    for stem, document in documents.items():
        write_json(folder / f"{stem}.json", document)
    return sorted([*paths, *(folder / f"{stem}.json" for stem in documents)])


def _sram_document(profile: Profile, found: Sequence[Span]) -> dict[str, Any]:
    over_time = [
        {"start_us": level.start_us, "occupied_bytes": level.occupied_bytes, "bytes_by_kind": level.bytes_by_kind}
        for level in levels(found)
    ]
    return {
        "sram_bytes": profile.spec.sram_bytes,
        "sram_peak_bytes": profile.sram_bytes,
        "spans": [span.as_dict() for span in found],
        "levels": over_time,
    }


def _roofline_document(spec: EngineSpec, points: Sequence[RoofPoint], top: int) -> dict[str, Any]:
    return {
        "macs_per_cycle": roof(spec, None),
        "bytes_per_cycle": bandwidth(spec),
        "layers": [point.as_dict() for point in points],
        "worst": [point.label for point in worst(points, top)],
    }


def draw_sram(profile: Profile, found: Sequence[Span], path: Path, *, title: str) -> Path:
    """Addresses over time, a rectangle for every tensor and buffer; below, the bytes that hold something."""
    figure = new_figure(11, 6.5)
    places, fill = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for span in found:
        _draw_span(places, span)
    for span in _nameable(found):
        _name_span(places, span, found[-1].end_us)
    places.axhline(profile.sram_bytes / _KIB, color="black", linestyle="--", linewidth=0.9)
    places.set_ylim(0, 1.06 * profile.sram_bytes / _KIB)
    places.set_ylabel("SRAM address (KiB)")
    peak, whole = profile.sram_bytes / _KIB, profile.spec.sram_bytes / _KIB
    places.set_title(f"{title}: SRAM peak {peak:.1f} of {whole:.0f} KiB", fontsize=10)
    _draw_levels(fill, levels(found))
    fill.set_xlabel("time (us)")
    fill.set_ylabel("in use (KiB)")
    fill.legend(fontsize=8, loc="upper right", ncols=len(_KINDS))
    return save_png(figure, path)


def _draw_span(axes: Axes, span: Span) -> None:
    size, length = span.size_bytes / _KIB, span.end_us - span.start_us
    colour = _KINDS.get(span.kind, GREY)
    corner = (span.start_us, span.address / _KIB)
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle(corner, length, size, facecolor=colour, edgecolor="white", linewidth=0.4, alpha=0.75))


def _nameable(found: Sequence[Span]) -> list[Span]:
    """The largest rectangles that do not lie on each other."""
    chosen: list[Span] = []
    for span in sorted(found, key=lambda s: -s.size_bytes * (s.end_us - s.start_us)):
        if len(chosen) < _NAMED_SPANS and not any(map(span.overlaps, chosen)):
            chosen.append(span)
    return chosen


def _name_span(axes: Axes, span: Span, end_us: float) -> None:
    """The name as far as the rectangle is wide; none where little of it would be left."""
    name = short_label(span.label) if span.kind == MAP else f"{short_label(span.label)} {span.kind}"
    room = int((span.end_us - span.start_us) / end_us * _LETTERS_ACROSS)
    if room >= _LEAST_LETTERS:
        middle = ((span.start_us + span.end_us) / 2, (span.address + span.size_bytes / 2) / _KIB)
        axes.annotate(_clipped(name, room), middle, ha="center", va="center", fontsize=6)


def _draw_levels(axes: Axes, found: Sequence[Level]) -> None:
    times = [level.start_us for level in found]
    kinds = [kind for kind in _KINDS if any(level.bytes_by_kind.get(kind) for level in found)]
    heights = [[level.bytes_by_kind.get(kind, 0) / _KIB for level in found] for kind in kinds]
    axes.stackplot(times, heights, step="post", labels=[str(kind) for kind in kinds], colors=[_KINDS[k] for k in kinds])
    axes.set_xlim(times[0], times[-1])
    axes.set_ylim(bottom=0)


def draw_roofline(spec: EngineSpec, points: Sequence[RoofPoint], path: Path, *, title: str, top: int) -> Path:
    """MACs per cycle over MACs per byte of traffic; areas are shares of the time. The `top` worst layers are named."""
    counted = [point for point in points if point.macs]
    ceiling = roof(spec, None)
    ridge = ceiling / bandwidth(spec)
    finite = [point.intensity for point in counted if point.intensity is not None]
    low, high = min([*finite, ridge]) / 2, max([*finite, ridge]) * 4
    figure = new_figure(8, 5.6)
    axes = figure.subplots()
    axes.plot([low, ridge, high], [roof(spec, low), ceiling, ceiling], color="black", linewidth=1.2)
    for point in counted:
        size = 12 + 900 * max(0.0, point.share)
        place = (_intensity(point, high), point.rate)
        axes.scatter(*place, s=size, color=bound_colour(point.bound), alpha=0.7, edgecolors="white", linewidths=0.4)
    _name_worst(axes, [point for point in worst(points, top) if point.macs], high)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("MACs per byte of traffic outside of SRAM (right edge: none)")
    axes.set_ylabel("MACs per cycle")
    others = sum(point.share for point in points if not point.macs)
    axes.set_title(f"{title} on {spec.name}; {others:.0%} of the time in layers without MACs", fontsize=10)
    axes.grid(visible=True, which="major", color="#E5E5E5", linewidth=0.6)
    axes.set_axisbelow(True)
    bound_legend(figure, [point.bound for point in counted])
    return save_png(figure, path)


def _intensity(point: RoofPoint, right: float) -> float:
    return right if point.intensity is None else point.intensity


def _name_worst(axes: Axes, points: Sequence[RoofPoint], right: float) -> None:
    """Numbers at the points, and what they are in a corner."""
    names = [f"{n}  {_clipped(short_label(p.label))} ({p.share:.0%})" for n, p in enumerate(points, 1)]
    for number, point in enumerate(points, 1):
        place = (_intensity(point, right), point.rate)
        axes.annotate(str(number), place, ha="center", va="center", fontsize=7, fontweight="bold")
    if names:
        text = "\n".join(["most cycles lost:", *names])
        axes.text(0.98, 0.03, text, transform=axes.transAxes, ha="right", va="bottom", fontsize=7)


def _clipped(name: str, length: int = 60) -> str:
    return name if len(name) <= length else f"…{name[1 - length :]}"
