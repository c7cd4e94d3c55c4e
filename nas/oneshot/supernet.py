"""`Supernet`: one set of weights from which every architecture of a space takes its own by slicing.

A layer is known by its name and kind: an architecture takes the first channels of what is kept for it, and of a kernel
the centre (slimmable networks, Yu et al. 2019, arXiv:1812.08928; elastic kernels, Cai et al. 2020, arXiv:1908.09791).
Blocks of different kinds have layers of their own where their names differ; a deeper stage goes on where a shallower
one ends.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from ...common.errors import UnsupportedError
from ...models.architecture import Architecture, Knob, KnobValue
from ...models.network import LayerNetwork
from ..space import Space

if TYPE_CHECKING:
    from ...models.family import Family

_KEPT_MODULES = 320  # those of a pool, and some that are judged
Key = tuple[str, str]


class Supernet:
    """Shared weights for the architectures of `space`, with `channels` of input and `classes` of output.

    The same arguments give the same weights: He initialisation over the largest fan-in, normalisations one and zero.
    """

    def __init__(self, space: Space, channels: int, classes: int, *, seed: int = 0) -> None:
        self.space, self._channels, self._classes = space, channels, classes
        self._modules: OrderedDict[str, LayerNetwork] = OrderedDict()
        generator = torch.Generator().manual_seed(seed)
        self.weights: dict[Key, nn.Parameter] = {
            key: nn.Parameter(_initial(key, shape, generator)) for key, shape in sorted(self._largest_shapes().items())
        }

    @property
    def family(self) -> Family:
        return self.space.family

    def parameters(self) -> list[nn.Parameter]:
        """Every shared weight, in a fixed order."""
        return list(self.weights.values())

    def module(self, architecture: Architecture) -> LayerNetwork:
        """The plain module of an architecture, with weights of its own: what slices are put into."""
        digest = architecture.digest()
        if digest not in self._modules:
            layers = self.family.layers(architecture, input_channels=self._channels, classes=self._classes)
            self._modules[digest] = LayerNetwork(layers)
            if len(self._modules) > _KEPT_MODULES:
                self._modules.popitem(last=False)
        self._modules.move_to_end(digest)
        return self._modules[digest]

    def slices(self, architecture: Architecture) -> dict[str, Tensor]:
        """Views of the shared weights by the names of the module's parameters; gradients flow through them.

        Raises:
            UnsupportedError: a layer that the space does not have, or that is wider than any of it.
        """
        module = self.module(architecture)
        return {name: self._slice(key, name, parameter) for key, name, parameter in _keyed(module)}

    def forward(self, architecture: Architecture, images: Tensor) -> Tensor:
        """Logits (N, classes) in training mode: normalised by the statistics of this batch, none of which are kept."""
        module = self.module(architecture).train()
        state = self.slices(architecture)
        state |= {name: buffer.detach().clone().to(images.device) for name, buffer in module.named_buffers()}
        return functional_call(module, state, (images,))

    def extract(self, architecture: Architecture, statistics: Mapping[str, Tensor] | None = None) -> LayerNetwork:
        """A module that computes what the subnet does, and shares nothing with it.

        `statistics` are buffers of its normalisations by name, see `evaluation.recalibrated`.
        """
        layers = self.module(architecture).layers
        found = LayerNetwork(layers)
        with torch.no_grad():
            taken = {name: tensor.detach().cpu() for name, tensor in self.slices(architecture).items()}
            found.load_state_dict({**found.state_dict(), **taken, **(statistics or {})})
        return found.eval()

    def to(self, device: torch.device) -> Supernet:
        """Moves the shared weights; optimisers must be made afterwards."""
        for parameter in self.weights.values():
            parameter.data = parameter.data.to(device)
        return self

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """The shared weights as arrays on the CPU."""
        return {"|".join(key): p.detach().cpu().numpy().copy() for key, p in self.weights.items()}

    def load_arrays(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Takes what `arrays` gave. `UnsupportedError` for weights of another space."""
        wanted = {"|".join(key): tuple(p.shape) for key, p in self.weights.items()}
        if {name: tuple(array.shape) for name, array in arrays.items()} != wanted:
            raise UnsupportedError("these are the weights of another space's supernet", hint="train it again")
        with torch.no_grad():
            for key, parameter in self.weights.items():
                parameter.copy_(torch.from_numpy(np.array(arrays["|".join(key)])))

    def _slice(self, key: Key, name: str, parameter: Tensor) -> Tensor:
        if key not in self.weights:
            raise UnsupportedError("the supernet has no such layer", where=name, hint="is it of another space?")
        whole = self.weights[key]
        if len(whole.shape) != len(parameter.shape) or any(
            need > have for need, have in zip(parameter.shape, whole.shape, strict=True)
        ):
            raise UnsupportedError(
                f"a weight of {tuple(parameter.shape)} does not fit into the supernet's {tuple(whole.shape)}",
                where=name,
            )
        return whole[_cut(tuple(whole.shape), tuple(parameter.shape))]

    def _largest_shapes(self) -> dict[Key, tuple[int, ...]]:
        """Of every layer, the largest extents that it has in any corner of the space."""
        found: dict[Key, tuple[int, ...]] = {}
        for architecture in corners(self.space):
            layers = self.family.layers(architecture, input_channels=self._channels, classes=self._classes)
            for key, _, parameter in _keyed(LayerNetwork(layers)):
                shape = tuple(parameter.shape)
                known = found.setdefault(key, shape)
                if len(known) != len(shape):
                    raise UnsupportedError("layers of one name and kind differ in their number of axes", where=key[0])
                found[key] = tuple(map(max, known, shape))
        return found


def corners(space: Space) -> Iterator[Architecture]:
    """The largest architecture for each kind of block: every number at its largest value, every word at each."""
    words = {value for knob in space.knobs for value in knob.values if isinstance(value, str)}
    for word in sorted(words) or [""]:
        values = {knob.name: _largest(knob, word) for knob in space.knobs}
        yield space.family.canonicalise(Architecture.of(space.family.name, values))


def _largest(knob: Knob, word: str) -> KnobValue:
    """`word` where the knob has it, else its largest number or its last word."""
    numbers = [value for value in knob.values if not isinstance(value, str)]
    return word if word in knob.values else max(numbers) if numbers else knob.values[-1]


def _keyed(module: LayerNetwork) -> Iterator[tuple[Key, str, Tensor]]:
    """The parameters of a module: layer and part with the layer's kind, the parameter's name, the parameter."""
    kinds = {layer.name: str(layer.kind) for layer in module.layers}
    for layer in module.layers:
        prefix = f"steps.{layer.name}."
        for name, parameter in module.steps[layer.name].named_parameters():
            yield (f"{layer.name}:{name}", kinds[layer.name]), f"{prefix}{name}", parameter


def _cut(whole: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[slice, ...]:
    """The first channels; of rows and columns those in the centre."""
    first = [slice(0, need) for need in wanted[:2]]
    centre = [
        slice((have - need) // 2, (have - need) // 2 + need) for have, need in zip(whole[2:], wanted[2:], strict=True)
    ]
    return (*first, *centre)


def _initial(key: Key, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    part = key[0].rpartition(":")[2]
    if len(shape) == 1:
        return torch.ones(shape) if part == "norm.weight" else torch.zeros(shape)
    values = torch.empty(shape)
    if len(shape) == 2:
        return nn.init.normal_(values, std=shape[1] ** -0.5, generator=generator)
    return nn.init.kaiming_normal_(values, generator=generator)
