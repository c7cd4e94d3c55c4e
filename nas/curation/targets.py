"""Cost models of everything that lanefit can estimate: engines, calibrated devices, this host's runtimes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ..bridge import to_graph
from ..operator_bridge import to_operator_graph
from .costs import TargetCosts

if TYPE_CHECKING:
    from ...estimator.devices.estimator import DeviceEstimator
    from ...estimator.live.files import CalibratedDevice
    from ...estimator.live.sessions import LiveRunner
    from ...models.layers import LayerSpec
    from ...targets.spec import EngineSpec
    from ..scoring import Estimator


def engine_costs(spec: EngineSpec, estimator: Estimator) -> TargetCosts:
    """The engine's estimator; what an engine cannot run raises `UnsupportedError`."""

    def latency_us(layers: tuple[LayerSpec, ...]) -> float:
        return float(estimator.estimate(to_graph(layers)).latency_us)

    return TargetCosts(spec.name, latency_us, spec.channel_multiple)


def device_costs(estimator: DeviceEstimator) -> TargetCosts:
    """A device that was calibrated from measurements."""

    def latency_us(layers: tuple[LayerSpec, ...]) -> float:
        return float(estimator.estimate(to_operator_graph(layers)).latency_us)

    return TargetCosts(estimator.card.target, latency_us)


def live_costs(calibrated: CalibratedDevice, runner: LiveRunner) -> TargetCosts:
    """A runtime of this host, or of a board, that was calibrated live. Networks are read as `runner` executes them."""
    return TargetCosts(calibrated.device, partial(_live_us, calibrated, runner))


def _live_us(calibrated: CalibratedDevice, runner: LiveRunner, layers: tuple[LayerSpec, ...]) -> float:
    from ...estimator.live.judgement import estimate_live
    from ..onnx_bridge import to_timing_model

    return estimate_live(calibrated, [runner.executed(to_timing_model(layers))])[0].latency_us
