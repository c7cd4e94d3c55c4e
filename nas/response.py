"""One forward and backward pass of an untrained network: its activation codes and input gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

_RELU = (F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)
_HARDTANH = (F.hardtanh, F.hardtanh_)
CLAMPS: tuple[Callable[..., Any], ...] = (*_RELU, *_HARDTANH, F.relu6)


@dataclass(frozen=True, slots=True)
class Response:
    """`agreement[i, j]`: units in the same linear region for samples i and j, out of `units`;
    `jacobian`: gradient of the summed outputs for each sample, (batch, inputs)."""

    agreement: NDArray[np.float64]
    units: int
    jacobian: NDArray[np.float64]


class _Codes(TorchFunctionMode):
    """Collects, at every clamp, whether each unit lets the gradient through.

    Functions are observed rather than modules, so a network that calls `F.relu` counts too.
    """

    def __init__(self, batch: int) -> None:
        super().__init__()
        self.agreement = np.zeros((batch, batch))
        self.units = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in CLAMPS and isinstance(result, Tensor):
            self._collect(_code(func, result.detach().flatten(1), args, kwargs or {}))
        return result

    def _collect(self, code: Tensor) -> None:
        ones = code.sum(1)
        both = (code @ code.T).double()
        same = code.shape[1] - ones[:, None] - ones[None, :] + 2 * both
        self.agreement += same.numpy(force=True)
        self.units += code.shape[1]


def _code(func: Any, clamped: Tensor, args: Any, kwargs: Any) -> Tensor:
    """1 where a clamp lets the gradient through: strictly between its bounds, seen from its output.

    The sign of an expression that is zero at the bounds gives that in float, several times faster than comparing.
    """
    if func in _RELU:
        return clamped.sign()
    low, high = 0.0, 6.0
    if func in _HARDTANH:
        low = args[1] if len(args) > 1 else kwargs.get("min_val", -1.0)
        high = args[2] if len(args) > 2 else kwargs.get("max_val", 1.0)
    return ((clamped - low) * (high - clamped)).sign()


def respond(module: nn.Module, inputs: Tensor, seed: int) -> Response:
    """Runs `module` in training mode (batch statistics: the moving ones of a fresh network say nothing).

    Parameters and buffers are passed in from outside, so moving statistics and gradients of `module` stay as they are.
    """
    state = {name: tensor.detach() for name, tensor in module.named_parameters()}
    state |= {name: tensor.detach().clone() for name, tensor in module.named_buffers()}
    was_training = module.training
    images = inputs.detach().clone().requires_grad_(True)
    try:
        module.train()
        with torch.random.fork_rng(devices=[]), _Codes(len(images)) as codes:
            torch.manual_seed(seed)
            outputs = functional_call(module, state, images)
    finally:
        module.train(was_training)
    (gradient,) = torch.autograd.grad(outputs.sum(), images)
    return Response(codes.agreement, codes.units, gradient.flatten(1).double().numpy(force=True))
