"""SynFlow on a logarithmic scale that cannot overflow, whatever the depth.

Tanaka et al., "Pruning neural networks without any data by iteratively conserving synaptic flow", NeurIPS 2020:
with weights replaced by their absolute values, R = sum of the outputs for an input of ones, the score is the sum of
|weight| × dR/d|weight|. Raw values pass 1e60 on ordinary networks, so the result here is its logarithm.
Normalisation, biases and clamps are left out, which makes the network a positive linear map. Each
convolution's output is then divided by its maximum and the logarithm of the divisor is carried beside the tensor;
where paths meet they are brought to one scale. That is exact, for residual networks too. Sigmoids are left out like
clamps; where a gate scales a map, flows multiply and so do their scales.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from ...common.errors import UnsupportedError
from .base import proxy
from .subject import Subject
from .trace import CLAMPS, LINEAR, training_mode

_SIGMOIDS = (torch.sigmoid, Tensor.sigmoid, F.sigmoid)
_NOTHING = -1e300  # the scale of a map of zeros, which must not decide the scale of a sum
_PRODUCTS = ("mul", "mul_", "__mul__", "__rmul__", "__imul__")
_ADDITIONS = ("add", "add_", "__add__", "__radd__", "__iadd__")
_TRANSPARENT = (  # homogeneous in their one feature map
    "mean", "sum", "flatten", "reshape", "view", "squeeze", "permute", "contiguous", "dropout", "pad",
    "avg_pool2d", "adaptive_avg_pool2d", "max_pool2d", "boolean_dispatch",
)  # fmt: skip


class _Flow(TorchFunctionMode):
    """Runs a network as a positive linear map on (mantissa, logarithm of the scale) pairs."""

    def __init__(self) -> None:
        super().__init__()
        # The tensor is kept beside its scale, so that its id stays taken.
        self._scales: dict[int, tuple[Tensor, float]] = {}

    def scale(self, tensor: Tensor) -> float:
        return self._scales[id(tensor)][1]

    def enter(self, tensor: Tensor, scale: float) -> Tensor:
        self._scales[id(tensor)] = (tensor, scale)
        return tensor

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        maps = [arg for arg in (*args, *kwargs.values()) if isinstance(arg, Tensor) and id(arg) in self._scales]
        if not maps:
            return func(*args, **kwargs)
        if func in LINEAR:
            return self._linear(func, args, kwargs)
        if func is F.batch_norm or func in CLAMPS or func in _SIGMOIDS:
            return args[0]
        if func.__name__ in _PRODUCTS:
            return self._product(func(*args, **kwargs), maps)
        if func.__name__ in _ADDITIONS and len(maps) == 2:
            return self._add(*maps)
        result = func(*args, **kwargs)
        if not isinstance(result, Tensor):  # a shape, a size
            return result
        if func.__name__ not in _TRANSPARENT or len(maps) != 1:
            raise UnsupportedError(f"synflow has no rule for {func.__name__}", hint="leave synflow out of the proxies")
        return self.enter(result, self.scale(maps[0]))

    def _linear(self, func: Any, args: Any, kwargs: Any) -> Tensor:
        args, kwargs = list(args), {**kwargs}
        if len(args) > 2:
            args[2] = None
        kwargs.pop("bias", None)
        result = func(*args, **kwargs)
        peak = float(result.detach().max())
        if not peak > 0:
            return self.enter(result, self.scale(args[0]))
        return self.enter(result / peak, self.scale(args[0]) + math.log(peak))

    def _product(self, result: Tensor, maps: list[Tensor]) -> Tensor:
        """Of two maps, or of a map and a number."""
        empty = not bool(result.detach().any())
        return self.enter(result, _NOTHING if empty else sum(self.scale(factor) for factor in maps))

    def _add(self, left: Tensor, right: Tensor) -> Tensor:
        common = max(self.scale(left), self.scale(right))
        terms = [term * math.exp(self.scale(term) - common) for term in (left, right)]
        return self.enter(terms[0] + terms[1], common)


@proxy("synflow", 'Tanaka et al., "Pruning neural networks without any data ...", NeurIPS 2020')
def synflow(subject: Subject) -> float:
    """Natural logarithm of the flow of absolute weights from input to output."""
    named = subject.module.named_parameters()
    weights = {name: p.detach().to(subject.device).abs().requires_grad_(True) for name, p in named}
    buffers = {name: b.detach().to(subject.device) for name, b in subject.module.named_buffers()}
    with training_mode(subject.module, False), _Flow() as flow:
        ones = flow.enter(torch.ones_like(subject.inputs[:1]), 0.0)
        outputs = functional_call(subject.module, {**weights, **buffers}, ones)
    mantissa = outputs.sum()
    total = mantissa.item()
    if not total > 0:
        return -math.inf
    return math.log(total) + flow.scale(outputs) + _log_share(mantissa, list(weights.values()))


def _log_share(mantissa: Tensor, weights: list[Tensor]) -> float:
    """Logarithm of Σ |weight| × d log R / d |weight|: the flow through all layers in units of R."""
    gradients = torch.autograd.grad(mantissa.log(), weights, allow_unused=True)
    pairs = ((w.detach(), g) for w, g in zip(weights, gradients, strict=True) if g is not None)
    share = sum(float((w.double() * g.double()).sum()) for w, g in pairs)
    return math.log(share) if share > 0 else -math.inf
