"""A device's library holds several kernels for one operator and runs the fastest: physics with a minimum over tactics.

A tactic cuts the output into tiles; `units` tiles run at a time, so the last wave is often not full (wave
quantisation: NVIDIA, Matrix Multiplication Background User's Guide). For tactic t of an operator

    time_t = fixed_t + waves_t · (prologue_t + cost_t · taps^slope_t · depth)
    latency = launch + softmax_q(softmin_p(time_t), Σ bytes / bandwidth) + epilogue

so compute and memory traffic overlap in part (a roofline with a rounded knee) and the choice of a tactic is smooth.
3×3 windows of stride 1 may run as 16 smaller products instead (Winograd F(2×2, 3×3): Lavin and Gray, 2016).
All constants are logarithms, so every term is positive. Least absolute errors of log latency, L-BFGS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from ...common.errors import EstimatorError
from .machine import Machine
from .shapes import columns_of

Array: TypeAlias = NDArray[np.float64]

_FULL = 0.75  # how much of a partly filled wave counts as a whole one; the rest overlaps with the next kernel's start
_WINOGRAD_TILES = ((32, 32), (64, 64), (128, 64))
_NEVER = 60.0  # log time of a tactic that cannot compute an operator
_KNEE = 0.03  # relative error below which a residual counts quadratically
_TRAFFIC = ("input_bytes", "output_bytes", "extra_bytes", "weight_bytes")
_SCALARS = 1 + len(_TRAFFIC) + 4  # launch, bandwidths, sharpness of minimum and knee, epilogue, stride


@dataclass(frozen=True, slots=True)
class Work:
    """Per row and tactic: waves, products summed in sequence, whether the tactic applies. Per row: log of the window's
    edge, bytes of each kind of traffic, operators in the epilogue, whether the window strides."""

    waves: Array
    depth: Array
    possible: NDArray[np.bool_]
    log_edge: Array
    traffic: Array
    epilogue: Array
    strided: Array


def gemm_work(x: Array, machine: Machine) -> Work:
    """Convolutions and matrix products as implicit matrix products: positions × channels out × (channels in · taps)."""
    c = columns_of(x)
    rows, columns = c["batch"] * c["positions"], c["channels_out"] / c["groups"]
    channels = np.maximum(c["depth"] / c["taps"], 1)
    packed = np.ceil(channels / machine.channel_pack) * machine.channel_pack
    tiles = [
        (c["groups"] * np.ceil(rows / m) * np.ceil(columns / n), packed * c["taps"]) for m, n in machine.gemm_tiles
    ]
    quarter = c["batch"] * np.ceil(c["positions"] / 4)
    tiles += [(16 * np.ceil(quarter / m) * np.ceil(columns / n), packed) for m, n in _WINOGRAD_TILES]
    square = (c["taps"] == 9) & (c["subsampling"] == 1) & (c["groups"] == 1)
    always = np.ones_like(square)
    possible = [always] * len(machine.gemm_tiles) + [square] * len(_WINOGRAD_TILES)
    return _work(c, tiles, possible, machine)


def stream_work(x: Array, machine: Machine) -> Work:
    """Everything whose outputs need few inputs each: element by element, `depth` steps for one."""
    c = columns_of(x)
    elements = c["batch"] * c["positions"] * c["channels_out"]
    tiles = [(np.ceil(elements / m), c["depth"]) for m, _ in machine.stream_tiles]
    return _work(c, tiles, [np.ones(len(x), np.bool_)] * len(tiles), machine)


def _work(
    c: Mapping[str, Array], tiles: list[tuple[Array, Array]], possible: list[NDArray[np.bool_]], machine: Machine
) -> Work:
    blocks = np.stack([count for count, _ in tiles], 1) / machine.units
    return Work(
        waves=np.maximum(1, _FULL * np.ceil(blocks) + (1 - _FULL) * blocks),
        depth=np.stack([depth for _, depth in tiles], 1),
        possible=np.stack(possible, 1),
        log_edge=0.5 * np.log(c["taps"])[:, None],
        traffic=np.stack([c[name] for name in _TRAFFIC], 1),
        epilogue=c["epilogue"],
        strided=(c["subsampling"] > 1).astype(np.float64),
    )


def tile_areas(machine: Machine, *, stream: bool) -> Array:
    """Output elements of each tactic's tile, in the order of the work's columns."""
    tiles = machine.stream_tiles if stream else (*machine.gemm_tiles, *_WINOGRAD_TILES)
    return np.array([m * n for m, n in tiles], np.float64)


@dataclass(frozen=True, slots=True)
class Law:
    """The constants of one kind of operator, as logarithms: four per tactic, then `_SCALARS`."""

    constants: Array

    @property
    def tactics(self) -> int:
        return (len(self.constants) - _SCALARS) // 4

    def evaluate(self, work: Work) -> tuple[Array, Array]:
        """Log latency (rows,) and log time of each tactic (rows, tactics), `inf` where it does not apply."""
        found = _evaluate(self.constants, work)
        return found.log_latency, np.where(work.possible, found.log_times, np.inf)


@dataclass(frozen=True, slots=True)
class _Terms:
    fixed: Array
    prologue: Array
    compute: Array
    times: Array
    log_times: Array
    excess: Array
    weights: Array
    weight_sum: Array
    tactic: Array
    memory_parts: Array
    memory: Array
    knee_sum: Array
    compute_share: Array
    body: Array
    launch: float
    epilogue: Array
    total: Array
    log_latency: Array


def _split(constants: Array) -> tuple[Array, Array, Array, Array, Array]:
    count = (len(constants) - _SCALARS) // 4
    fixed, prologue, cost, slope = constants[: 4 * count].reshape(4, count)
    return fixed, prologue, cost, slope, constants[4 * count :]


def _evaluate(constants: Array, work: Work) -> _Terms:
    fixed, prologue, cost, slope, rest = _split(constants)
    bandwidths, (sharp, knee) = rest[1:5], np.exp(rest[5:7])
    parts = (
        np.exp(fixed)[None],
        work.waves * np.exp(prologue),
        work.waves * work.depth * np.exp(cost + slope * work.log_edge),
    )
    times = parts[0] + parts[1] + parts[2]
    log_times = np.where(work.possible, np.log(times), _NEVER)
    least = log_times.min(1, keepdims=True)
    weights = np.exp(-sharp * (log_times - least))
    weight_sum = weights.sum(1)
    tactic = least[:, 0] - np.log(weight_sum) / sharp
    memory_parts = work.traffic * np.exp(-bandwidths)
    memory = np.log(np.maximum(memory_parts.sum(1), 1e-300))
    most = np.maximum(tactic, memory)
    shares = np.exp(knee * (tactic - most)), np.exp(knee * (memory - most))
    knee_sum = shares[0] + shares[1]
    body = np.exp(most + np.log(knee_sum) / knee)
    launch, epilogue = float(np.exp(rest[0])), work.epilogue * np.exp(rest[7])
    total = launch + body + epilogue
    return _Terms(
        *parts, times, log_times, log_times - least, weights, weight_sum, tactic, memory_parts, memory, knee_sum,
        shares[0] / knee_sum, body, launch, epilogue, total, np.log(total) + rest[8] * work.strided,
    )  # fmt: skip


def _gradient(constants: Array, work: Work, pull: Array) -> Array:
    """The gradient of Σ pull · log latency: the chain rule backwards through `_evaluate`."""
    t = _evaluate(constants, work)
    sharp, knee = np.exp(constants[-4:-2])
    body = pull * t.body / t.total
    on_tactic, on_memory = body * t.compute_share, body * (1 - t.compute_share)
    each = (on_tactic / t.weight_sum)[:, None] * t.weights / t.times
    most = np.maximum(t.tactic, t.memory)
    mean_excess = (t.weights * t.excess).sum(1) / t.weight_sum
    by_sharp = on_tactic * (np.log(t.weight_sum) / sharp + mean_excess)
    mean_knee = t.compute_share * (t.tactic - most) + (1 - t.compute_share) * (t.memory - most)
    by_knee = body * (mean_knee - np.log(t.knee_sum) / knee)
    memory_sum = np.maximum(t.memory_parts.sum(1), 1e-300)
    return np.concatenate([
        (each * t.fixed).sum(0), (each * t.prologue).sum(0), (each * t.compute).sum(0),
        (each * t.compute * work.log_edge).sum(0), [(pull * t.launch / t.total).sum()],
        -((on_memory / memory_sum)[:, None] * t.memory_parts).sum(0),
        [by_sharp.sum(), by_knee.sum(), (pull * t.epilogue / t.total).sum(), (pull * work.strided).sum()],
    ])  # fmt: skip


def fit_law(work: Work, areas: Array, latency: Array, *, iterations: int = 300) -> tuple[Law, float]:
    """The law with the least mean absolute error of log latency, and that error. Latencies (rows,) are positive.

    Constants are held near a start that comes from the data: the highest rate and bandwidth seen, the least latency.
    """
    target, start = np.log(latency), _start(work, areas, latency)
    hold = 1.6e-3 * max(1.0, 1000 / len(target))

    def loss(constants: Array) -> tuple[float, Array]:
        error = _evaluate(constants, work).log_latency - target
        size = np.sqrt(error**2 + _KNEE**2)
        away = constants - start
        slope = _gradient(constants, work, error / size / len(target))
        return float(size.mean() + hold * (away**2).mean()), slope + 2 * hold * away / len(away)

    reach = np.full(len(start), 8.0)
    reach[-4:-2] = 1.5  # a knee rounder or sharper than that is no knee, and overflows
    bounds = np.column_stack([start - reach, start + reach])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": iterations})
    return Law(np.asarray(found.x, np.float64)), float(found.fun)


def _start(work: Work, areas: Array, latency: Array) -> Array:
    rate = np.quantile(work.waves[:, 0] * work.depth[:, 0] * areas[0] / latency, 0.98)
    bandwidth = np.quantile(work.traffic.sum(1) / latency, 0.98)
    least = float(np.log(np.quantile(latency, 0.02)))
    tactics = [np.full(len(areas), least - 1.1), np.full(len(areas), least - 1.8), np.log(areas / rate), 0 * areas]
    rest = [least - 0.3, *[np.log(bandwidth)] * len(_TRAFFIC), np.log(6), np.log(2), least - 1.8, 0.0]
    return np.concatenate([*tactics, np.array(rest)])


def law_from_list(value: Any, areas: Array) -> Law:
    """A law from its constants; `EstimatorError` when they are not as many finite numbers as the machine needs."""
    constants = np.asarray(value, np.float64)
    if constants.shape != (4 * len(areas) + _SCALARS,) or not np.isfinite(constants).all():
        raise EstimatorError("malformed law of an operator kind", hint="fit the estimator again")
    return Law(constants)
