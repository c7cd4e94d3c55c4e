"""`Subject`: one untrained network on one minibatch, with the passes that several scores share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ...common.errors import InputError
from .block_passes import Pull, block_entropies, block_pulls
from .gradients import Jacobian, LossGradients, input_jacobian, loss_gradients
from .ledger import Ledger
from .trace import Trace, noise_like, trace_network

T = TypeVar("T")


def shared(compute: Callable[[Any], T]) -> property:
    """A property that is computed once, and whose cost is booked on whoever needs it."""

    def read(self: Subject) -> T:
        return self.share(compute.__name__, lambda: compute(self))

    read.__doc__ = compute.__doc__
    return property(read)


class Subject:
    """One untrained network on one minibatch. Proxies share its passes and must leave it as they found it.

    `inputs` is (batch, C, H, W); `labels` (batch,) class numbers, drawn from `seed` where there are none (before
    training a loss is only some direction). `seed` drives whatever is random in a score, so that equal
    (architecture, seed, minibatch) give equal scores. Everything is computed on `device`, by default the one of
    the module, in the module's precision.
    """

    def __init__(
        self,
        module: nn.Module,
        inputs: Tensor,
        *,
        macs: int,
        labels: Tensor | None = None,
        seed: int = 0,
        device: torch.device | str | None = None,
    ) -> None:
        if inputs.dim() < 2 or len(inputs) < 2:
            problem = f"a minibatch of shape {tuple(inputs.shape)}"
            raise InputError(problem, hint="scores compare samples: give at least two, as (batch, C, H, W)")
        example = next(module.parameters(), inputs)
        self.module, self.macs, self.seed = module, macs, seed
        self.device = torch.device(device) if device is not None else example.device
        self.inputs = inputs.detach().to(self.device, example.dtype)
        self.labels = labels
        self.ledger = Ledger(wall=self.device.type != "cpu")
        self._shared: dict[str, Any] = {}

    def share(self, name: str, compute: Callable[[], T]) -> T:
        """The result of `compute`, remembered under `name`."""
        if name in self._shared:
            self.ledger.need(name)
        else:
            with self.ledger.section(name):
                self._shared[name] = compute()
        return self._shared[name]

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.module.parameters())

    @shared
    def trace(self) -> Trace:
        """One forward pass on the minibatch."""
        return trace_network(self.module, self.inputs, self.seed)

    @shared
    def noise_trace(self) -> Trace:
        """One forward pass on two images of noise: batch normalisation of a 1×1 map needs more than one."""
        return trace_network(self.module, noise_like(self.inputs[:2], self.seed), self.seed)

    @shared
    def jacobian(self) -> Jacobian:
        """One backward pass to the images."""
        return input_jacobian(self.trace)

    @shared
    def loss_gradients(self) -> LossGradients:
        """Two backward passes to the weights."""
        return loss_gradients(self.trace, self.labels, self.seed)

    @shared
    def block_entropies(self) -> list[float]:
        """Spectral entropy of the features of each block, in nats."""
        return block_entropies(self.trace.blocks)

    @shared
    def block_pulls(self) -> list[Pull]:
        """How each block but the first changes gradients; one backward pass in pieces."""
        return block_pulls(self.trace.blocks, self.seed)
