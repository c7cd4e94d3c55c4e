"""One forward pass of an untrained network, with everything that several scores read from it.

Functions are observed rather than modules, so a network that calls `F.relu` is seen as well as one of `nn.ReLU`s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from .dataflow import Dataflow

_RELU = (F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)
_HARDTANH = (F.hardtanh, F.hardtanh_)
CLAMPS: tuple[Callable[..., Any], ...] = (*_RELU, *_HARDTANH, F.relu6)
LINEAR: tuple[Callable[..., Any], ...] = (torch.conv2d, F.linear)
PATTERN_SAMPLES = 32  # samples in one unit's pattern: as many as float64 adds up exactly, and few are alike by chance


@dataclass(frozen=True, slots=True)
class Product:
    """A convolution or linear layer as executed: its weight, and what it gives before bias and normalisation follow."""

    weight: Tensor
    output: Tensor

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one sample."""
        return self.output[0].numel() * self.weight[0].numel()


@dataclass(frozen=True, slots=True)
class Trace:
    """A forward pass in training mode whose graph is kept, so that each score adds only its own backward pass.

    Training mode because the moving statistics of a fresh network say nothing. `outputs`: (batch, ...);
    `weights`: leaf tensors by name; `blocks`: the maps through which all information flows, in order;
    `agreement[i, j]`: units in the same linear region for samples i and j, out of `units`; `patterns`: how many
    different codes over the minibatch the units have.
    """

    images: Tensor
    outputs: Tensor
    weights: Mapping[str, Tensor]
    blocks: tuple[Tensor, ...]
    products: tuple[Product, ...]
    agreement: Tensor
    units: int
    patterns: int


class _Observer(TorchFunctionMode):
    """Collects codes of clamps, products of linear layers and the flow of data between calls."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.agreement = torch.zeros(len(images), len(images), dtype=torch.float64, device=images.device)
        self.units = 0
        self.patterns: list[Tensor] = []
        self.products: list[Product] = []
        self.flow = Dataflow(images)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if isinstance(result, Tensor):
            if func in CLAMPS:
                self._collect(_code(func, result.detach().flatten(1), args, kwargs))
            if func in LINEAR:
                self.products.append(Product(args[1] if len(args) > 1 else kwargs["weight"], result))
            self.flow.record(result, (*args, *kwargs.values()), weighted=func in LINEAR)
        return result

    def _collect(self, code: Tensor) -> None:
        ones = code.sum(1).double()
        both = (code @ code.T).double()
        self.agreement += code.shape[1] - ones[:, None] - ones[None, :] + 2 * both
        self.units += code.shape[1]
        bits = code[:PATTERN_SAMPLES].double()
        powers = 2.0 ** torch.arange(len(bits), dtype=torch.float64, device=code.device)
        self.patterns.append((powers @ bits).unique())


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


def trace_network(module: nn.Module, inputs: Tensor, seed: int) -> Trace:
    """Runs `module` on `inputs` (on their device and in their precision) and keeps the graph.

    Parameters and buffers are passed in from outside, so moving statistics and gradients of `module` stay as they are.
    """
    images = inputs.detach().clone().requires_grad_(True)
    weights = leaf_weights(module, images)
    state = {**weights, **buffer_copies(module, images)}
    with training_mode(module), seeded(seed, images.device), _Observer(images) as seen:
        outputs = functional_call(module, state, images)
    patterns = int(torch.cat(seen.patterns).unique().numel()) if seen.patterns else 0
    return Trace(
        images, outputs, weights, seen.flow.waypoints(), tuple(seen.products), seen.agreement, seen.units, patterns
    )


def leaf_weights(module: nn.Module, like: Tensor) -> dict[str, Tensor]:
    """The parameters as leaves of their own, on the device of `like`; the storage is shared where it can be."""
    return {name: p.detach().to(like.device).requires_grad_(True) for name, p in module.named_parameters()}


def buffer_copies(module: nn.Module, like: Tensor) -> dict[str, Tensor]:
    return {name: b.detach().to(like.device, copy=True) for name, b in module.named_buffers()}


@contextmanager
def training_mode(module: nn.Module, training: bool = True) -> Iterator[None]:
    """Puts every submodule into one mode, and back into its own afterwards."""
    modes = {name: part.training for name, part in module.named_modules()}
    try:
        module.train(training)
        yield
    finally:
        for name, part in module.named_modules():
            part.training = modes[name]


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """What a module draws inside (dropout) follows from `seed`; the global random state is as before afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def noise_like(like: Tensor, seed: int, *, signs: bool = False) -> Tensor:
    """Standard normal (or ±1) values of the shape of `like`, the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    if signs:
        drawn = torch.randint(0, 2, like.shape, generator=generator).to(like.device, like.dtype)
        return 2 * drawn - 1
    return torch.randn(like.shape, generator=generator).to(like.device, like.dtype)
