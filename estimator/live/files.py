"""Calibrated devices as JSON: the measured sums and what was fitted to them. Loading runs no code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ...common.errors import EstimatorError
from ...common.files import read_json, write_json
from .additive import AdditiveModel, Deviations
from .box import Box, box_of
from .operator_costs import COLUMNS, FAMILIES, OperatorCosts, sum_from_dict
from .rules import DeviceRules, rules_from_dict

SCHEMA, SCHEMA_VERSION = "lanefit.live-model", 2


@dataclass(frozen=True)
class CalibratedDevice:
    """A model with the device and toolchain that it was measured on; `caches` are those of its terms, bytes.

    rules: what probes told of how the runtime treats a graph; absent where it was not asked.
    """

    model: AdditiveModel
    device: str
    toolchain: str
    caches: tuple[int, ...]
    rules: DeviceRules | None = None

    @cached_property
    def box(self) -> Box:
        """The extents that were measured, by kind of operator."""
        return box_of(self.model.sums)


def save_device(path: Path, calibrated: CalibratedDevice) -> None:
    """Writes the file atomically."""
    model = calibrated.model
    write_json(
        path,
        {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "device": calibrated.device,
            "toolchain": calibrated.toolchain,
            "caches": list(calibrated.caches),
            "rules": None if calibrated.rules is None else calibrated.rules.as_dict(),
            "measurements": [
                {"latency_us": latency, "doubt": doubt, "definition": total.as_dict()}
                for total, latency, doubt in zip(model.sums, model.latency_us, model.doubts, strict=True)
            ],
            "costs": {
                "kinds": {kind: list(values) for kind, values in model.costs.kinds.items()},
                "families": {name: list(values) for name, values in model.costs.families.items()},
                "surroundings": list(model.costs.surroundings),
            },
            "deviations": asdict(model.deviations),
        },
    )


def load_device(path: Path) -> CalibratedDevice:
    """The inverse of `save_device`; another schema, another version or damage raises `EstimatorError`."""
    content = read_json(path)
    if not isinstance(content, Mapping) or content.get("schema") != SCHEMA:
        raise EstimatorError("not a calibrated device", where=str(path), hint="write one with lanefit calibrate --live")
    if content.get("schema_version") != SCHEMA_VERSION:
        raise EstimatorError(
            f"schema version {content.get('schema_version')}, this lanefit reads version {SCHEMA_VERSION}",
            where=str(path),
            hint="calibrate again from the stored measurements",
        )
    try:
        return _device(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EstimatorError(f"the file is damaged: {error}", where=str(path), hint="calibrate again") from error


def _device(content: Mapping[str, Any]) -> CalibratedDevice:
    sums = [sum_from_dict(m["definition"]) for m in content["measurements"]]
    latencies = [float(m["latency_us"]) for m in content["measurements"]]
    doubts = [max(1.0, float(m["doubt"])) for m in content["measurements"]]
    caches = tuple(int(size) for size in content["caches"])
    deviations = Deviations(**_numbers(content["deviations"]))
    model = AdditiveModel(sums, latencies, _costs(content["costs"]), deviations, doubts)
    rules = None if content["rules"] is None else rules_from_dict(content["rules"])
    return CalibratedDevice(model, str(content["device"]), str(content["toolchain"]), caches, rules)


def _costs(content: Mapping[str, Any]) -> OperatorCosts:
    tables = [{str(k): tuple(map(float, v)) for k, v in content[name].items()} for name in ("kinds", "families")]
    kinds, families = tables
    if set(families) != set(FAMILIES) or any(len(v) != COLUMNS for table in tables for v in table.values()):
        raise ValueError("costs of another kind of model")
    return OperatorCosts(kinds, families, tuple(map(float, content["surroundings"])))


def _numbers(content: Mapping[str, Any]) -> dict[str, float]:
    values = {str(name): float(value) for name, value in content.items()}
    if any(not value > 0 for value in values.values()):
        raise ValueError("deviations must be positive")
    return values
