"""The model card of a device's estimator, for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .tables import pairs, table

if TYPE_CHECKING:
    from ..estimator.devices.estimator import DeviceEstimator

_BOX = ("batch", "rows", "channels_in", "channels_out", "taps", "subsampling")
_HEADERS = ("what", "measured", "within 5 %", "within 10 %", "RMSPE", "Spearman")


def card_document(estimator: DeviceEstimator, path: Path, drawn: Sequence[Path]) -> dict[str, Any]:
    return {"file": str(path), "plots": [str(found) for found in drawn], "card": estimator.card.as_dict()}


def card_tables(estimator: DeviceEstimator, path: Path) -> list[Any]:
    """Where the numbers come from, errors by class, and the box in which they hold."""
    card = estimator.card
    facts: list[tuple[str, object]] = [
        ("device", card.target),
        ("predicts", f"{card.quantity} in {'uJ' if card.quantity == 'energy' else 'us'}"),
        ("measurements", ", ".join(f"{count} in {name}" for name, count in card.sources.items())),
        ("data hash", card.data_hash),
        ("split", card.split),
    ]
    if estimator.operators is not None:
        machine = estimator.operators.machine_
        facts.append(("machine", f"{machine.units} parallel units, channels packed by {machine.channel_pack}"))
    joined = "activations and residual sums with the convolution before them" if estimator.fusion.pairs else "nothing"
    facts += [("in one pass", joined), ("written to", path)]
    rows = [
        (name, found.count, f"{found.acc5:.1%}", f"{found.acc10:.1%}", f"{found.rmspe:.1%}", f"{found.spearman:.4f}")
        for name, found in card.rows()
    ]
    tables = [pairs(facts, title="model card"), table(_HEADERS, rows, numbers=_HEADERS[1:], title="errors unseen")]
    if card.box:
        boxes = [(name, *(_range(sizes[size]) for size in _BOX)) for name, sizes in sorted(card.box.items())]
        tables.append(table(("class", *_BOX), boxes, numbers=_BOX, title="valid for"))
    return tables


def _range(ends: Sequence[float]) -> str:
    low, high = (f"{end:g}" for end in ends)
    return low if low == high else f"{low} to {high}"
