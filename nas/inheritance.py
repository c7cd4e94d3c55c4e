"""Weights of a trained network as the beginning of a similar one, preserving its function where layers allow it.

Layers are matched by name. Where both have the same shape the weights are copied. Where a layer became wider, the
channels that both have are copied, new outputs keep their fresh initialisation, and what reads them starts at zero
(so they change nothing yet, and learn at once, since what they carry is not zero): Net2Net's widening (Chen et al.,
ICLR 2016, arXiv:1511.05641) without its duplicates. A larger window holds the smaller one in its middle, a new block
with a shortcut starts as the identity. Anything else is initialised afresh, and `Inheritance` names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..models.layers import LayerKind, LayerSpec
from ..models.network import LayerNetwork, silence_residuals

Weights = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class Inheritance:
    """Layers by what became of them. `fresh` and `narrowed` layers change the function, the others do not.

    copied: same shape. widened: more channels or a larger window around the parent's. silent: new, but adding nothing
    at first. narrowed: some of the parent's channels or window are gone. fresh: new, or nothing fits.
    """

    copied: tuple[str, ...] = ()
    widened: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    narrowed: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()

    @property
    def preserves_function(self) -> bool:
        """True when parent and child compute the same, as far as weights decide: a stride, an input
        size or a shortcut that only one of them has is not seen here."""
        return not self.narrowed and not self.fresh


def inherit(child: nn.Module, parent: Weights) -> Inheritance:
    """Puts what fits of `parent` (a state by name, of a network of the same family) into `child`, and reports it.

    `child` is freshly initialised. A module that is not made of described layers takes whole tensors only.
    """
    names = _layer_names(child)
    blocks = _new_blocks(child, parent) if isinstance(child, LayerNetwork) else frozenset[str]()
    if blocks and isinstance(child, LayerNetwork):
        _silence(child, blocks)
    found: dict[str, list[str]] = {"copied": [], "widened": [], "silent": [], "narrowed": [], "fresh": []}
    state = child.state_dict()
    for name in names:
        own = {key: tensor for key, tensor in state.items() if key.startswith(f"{name}.")}
        fate = "silent" if name in blocks else _take(own, parent, partly=isinstance(child, LayerNetwork))
        found[fate].append(name)
    child.load_state_dict(state)
    return Inheritance(**{fate: tuple(layers) for fate, layers in found.items()})


def _take(own: Mapping[str, Tensor], parent: Weights, *, partly: bool) -> str:
    """Writes one layer in place; what became of it."""
    pairs = {name: (tensor, parent[name]) for name, tensor in own.items() if name in parent}
    if len(pairs) < len(own) or any(tensor.ndim != found.ndim for tensor, found in pairs.values()):
        return "fresh"
    shapes = [(tuple(tensor.shape), found.shape) for tensor, found in pairs.values()]
    if all(mine == theirs for mine, theirs in shapes):
        for tensor, found in pairs.values():
            tensor.copy_(torch.from_numpy(np.array(found)))
        return "copied"
    if not partly or any(_parity_differs(mine, theirs) for mine, theirs in shapes):
        return "fresh"
    for tensor, found in pairs.values():
        _overlap(tensor, torch.from_numpy(np.array(found)))
    return "narrowed" if any(a < b for mine, theirs in shapes for a, b in zip(mine, theirs, strict=True)) else "widened"


def _overlap(tensor: Tensor, found: Tensor) -> None:
    """Copies the channels and the middle of the window that both have.

    Kernels are (outputs, inputs, rows, columns): the rows of known outputs become zero where the parent had nothing,
    those of new outputs stay as they are initialised.
    """
    if tensor.ndim < 2:
        outputs = min(tensor.numel(), found.numel())
        tensor.view(-1)[:outputs] = found.view(-1)[:outputs]
        return
    outputs = min(tensor.shape[0], found.shape[0])
    inputs = min(tensor.shape[1], found.shape[1])
    tensor[:outputs] = 0
    mine, theirs = tensor[:outputs, :inputs], found[:outputs, :inputs]
    for axis in range(2, tensor.ndim):
        size = min(mine.shape[axis], theirs.shape[axis])
        mine = mine.narrow(axis, (mine.shape[axis] - size) // 2, size)
        theirs = theirs.narrow(axis, (theirs.shape[axis] - size) // 2, size)
    mine.copy_(theirs)


def _parity_differs(mine: tuple[int, ...], theirs: tuple[int, ...]) -> bool:
    """Windows of even and odd size have no common middle."""
    return any((a - b) % 2 for a, b in zip(mine[2:], theirs[2:], strict=True))


def _new_blocks(child: LayerNetwork, parent: Weights) -> frozenset[str]:
    """Layers of residual branches that the parent lacks altogether and that can begin as nothing."""
    known = {name.split(".")[1] for name in parent if name.startswith("steps.")}
    by_name = {layer.name: layer for layer in child.layers}
    silent: set[str] = set()
    for layer in child.layers:
        branch = _branch(by_name, layer) if layer.kind is LayerKind.ADD else []
        if branch and not known.intersection(branch) and _ends_silently(by_name[layer.inputs[0]]):
            silent |= {f"steps.{name}" for name in branch}
    return frozenset(silent)


def _branch(layers: Mapping[str, LayerSpec], add: LayerSpec) -> list[str]:
    """Names of the layers between a shortcut and its sum, last first; empty unless they form one chain."""
    name, shortcut, found = add.inputs[0], add.inputs[-1], list[str]()
    while name != shortcut:
        if name not in layers or len(layers[name].inputs) != 1:
            return []
        found.append(name)
        name = layers[name].inputs[0]
    return found


def _ends_silently(last: LayerSpec) -> bool:
    """At scale 0 its output is 0 and still passes a gradient: a ReLU would pass none."""
    return last.affine == "norm" and last.activation == "none"


def _silence(child: LayerNetwork, blocks: frozenset[str]) -> None:
    """Sets the last scale of the new branches, and of no others, to 0."""
    before = {name: tensor.clone() for name, tensor in child.state_dict().items()}
    silence_residuals(child)
    state = child.state_dict()
    for name, tensor in state.items():
        if name.rsplit(".", 2)[0] not in blocks and name in before:
            tensor.copy_(before[name])


def _layer_names(module: nn.Module) -> list[str]:
    """Names of the layers that hold weights: of the steps of a described network, of leaf modules otherwise."""
    if isinstance(module, LayerNetwork):
        return [f"steps.{name}" for name, step in module.steps.items() if step.state_dict()]
    return [name for name, part in module.named_modules() if name and not list(part.children()) and part.state_dict()]
