"""Verification: every stage of an export against the one before it, and against the float64 module.

    float64 ─► float32 ─► onnx ─► int8 ─► reference ─► device ─► host

A stage passes when its tolerance does; reference → device has none, the bits must be equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common.errors import DeviceError, VerificationError

Outputs = Mapping[str, NDArray]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Accepts |difference| <= atol + rtol × max |previous| + qsteps × output scale, or else an SQNR of `sqnr_db`.

    `reason` says why anything but zero is right.
    """

    rtol: float = 0.0
    atol: float = 0.0
    qsteps: float = 0.0
    sqnr_db: float = math.inf
    reason: str = "the same integers in another place"

    def allowed(self, largest: float, step: float) -> float:
        return self.atol + self.rtol * largest + self.qsteps * step

    def accepts(self, error: float, allowed: float, ratio_db: float) -> bool:
        return math.isfinite(error) and (error <= allowed or ratio_db >= self.sqnr_db)


TOLERANCES: dict[str, Tolerance] = {
    "float32": Tolerance(1e-3, 1e-5, reason="float32 rounding, against float64, in sums of up to thousands of terms"),
    "onnx": Tolerance(1e-4, 1e-5, reason="batch normalisation is folded into weights and sums run in another order"),
    "int8": Tolerance(sqnr_db=-math.inf, reason="quantisation approximates by design: reported, not judged"),
    "reference": Tolerance(
        qsteps=4.0,
        sqnr_db=20.0,
        reason="ONNX Runtime scales by a float32 and rounds half to even, TOSA by integers and half up: a stored value "
        "may differ by one step per layer, and later layers carry the difference on",
    ),
    "device": Tolerance(),
    "host": Tolerance(
        1e-5,
        1e-6,
        1.0,
        reason="CPU operators are TVM's instead of ONNX Runtime's; rounding may flip one step",
    ),
}

WIDE_TOLERANCES = TOLERANCES | {
    "reference": Tolerance(
        qsteps=4.0,
        sqnr_db=10.0,
        reason="operators on int16 or bf16 maps round less than the int8 model: the difference is its rounding",
    )
}
"""For networks with operators on int16 or bf16 maps."""


@dataclass(frozen=True, slots=True)
class StageReport:
    """One stage against its predecessor: the worst output, and where. `top1` only for (n, classes) outputs."""

    stage: str
    previous: str
    output: str
    max_error: float
    max_error_steps: float | None
    sqnr_db: float
    top1: float | None
    worst_index: tuple[int, ...]
    baseline_sqnr_db: float
    baseline_top1: float | None
    allowed: float
    passed: bool
    reason: str

    @property
    def figures(self) -> str:
        """How far the stage is from its predecessor, in a few words."""
        distance = f"{self.stage} differs from {self.previous} by {self.max_error:.6g}"
        return f"{distance} (allowed {self.allowed:.6g}, SQNR {self.sqnr_db:.1f} dB)"


@dataclass(frozen=True, slots=True)
class VerifyReport:
    samples: int
    baseline: str
    stages: tuple[StageReport, ...]

    @property
    def passed(self) -> bool:
        return all(stage.passed for stage in self.stages)

    def stage(self, name: str) -> StageReport:
        return next(stage for stage in self.stages if stage.stage == name)

    def as_dict(self) -> dict[str, Any]:
        """JSON values; infinite figures become null."""
        stages = [{k: _finite(v) for k, v in asdict(stage).items()} for stage in self.stages]
        return {"samples": self.samples, "baseline": self.baseline, "passed": self.passed, "stages": stages}

    def check(self) -> None:
        """Raises `VerificationError` with the figures of every stage that failed; where and why are the first one's."""
        failed = [stage for stage in self.stages if not stage.passed]
        if failed:
            first = failed[0]
            what = f"verification failed: {'; '.join(stage.figures for stage in failed)}"
            where = f"output {first.output!r}, index {first.worst_index}"
            raise VerificationError(what, where=where, hint=f"the tolerance of {first.stage}: {first.reason}")


def verify(
    stages: Sequence[tuple[str, Callable[[], Outputs]]],
    scales: Mapping[str, float],
    *,
    tolerances: Mapping[str, Tolerance] = TOLERANCES,
) -> VerifyReport:
    """Runs the stages in order and compares each with the one before; the first one is the baseline of all.

    `scales` are the int8 steps of the outputs that have one.
    """
    results: list[tuple[str, Outputs]] = [(name, run()) for name, run in stages]
    baseline, expected = results[0]
    reports = []
    for (previous, before), (name, after) in pairwise(results):
        reports.append(_compare((name, previous), after, before, expected, scales, tolerances[name]))
    samples = len(next(iter(expected.values())))
    return VerifyReport(samples, baseline, tuple(reports))


def sqnr_db(signal: NDArray, noisy: NDArray) -> float:
    """Signal to quantisation-noise ratio in dB; infinite for equal arrays."""
    reference = signal.astype(np.float64)
    noise = float(np.square(noisy.astype(np.float64) - reference).sum())
    power = float(np.square(reference).sum())
    if noise == 0.0:
        return math.inf
    return 10.0 * math.log10(power / noise) if power else -math.inf


def top1_agreement(a: NDArray, b: NDArray) -> float | None:
    """Share of samples whose largest class agrees; None for outputs that are not (n, classes)."""
    if a.ndim != 2 or a.shape[1] < 2:
        return None
    return float((a.argmax(axis=1) == b.argmax(axis=1)).mean())


def _compare(
    names: tuple[str, str],
    after: Outputs,
    before: Outputs,
    baseline: Outputs,
    scales: Mapping[str, float],
    t: Tolerance,
) -> StageReport:
    """The report of the output that comes closest to failing, or fails. `names` are this stage and the one before."""
    reports = []
    for output in before:
        a, b = after[output].astype(np.float64), before[output].astype(np.float64)
        if a.shape != b.shape:
            raise DeviceError(f"{names[0]} gives shape {a.shape}, {names[1]} {b.shape}", where=f"output {output!r}")
        reports.append(_stage_report(names, output, a, b, baseline[output], scales.get(output), t))
    return max(reports, key=lambda r: (not r.passed, r.max_error / r.allowed if r.allowed else r.max_error))


def _stage_report(
    names: tuple[str, str], output: str, a: NDArray, b: NDArray, baseline: NDArray, step: float | None, t: Tolerance
) -> StageReport:
    error = np.nan_to_num(np.abs(a - b), nan=np.inf)
    worst = np.unravel_index(int(error.argmax()), error.shape)
    maximum, ratio, allowed = float(error[worst]), sqnr_db(b, a), t.allowed(float(np.abs(b).max()), step or 0.0)
    return StageReport(
        stage=names[0],
        previous=names[1],
        output=output,
        max_error=maximum,
        max_error_steps=maximum / step if step else None,
        sqnr_db=ratio,
        top1=top1_agreement(a, b),
        worst_index=tuple(int(i) for i in worst),
        baseline_sqnr_db=sqnr_db(baseline, a),
        baseline_top1=top1_agreement(baseline, a),
        allowed=allowed,
        passed=t.accepts(maximum, allowed, ratio),
        reason=t.reason,
    )


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
