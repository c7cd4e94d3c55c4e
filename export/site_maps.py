"""The maps that a site reads and makes: tensors in their own layouts, and what brings them into the layout that an
operator wants."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from ..common.errors import UnsupportedError
from ..kernels.movement_ops import Movement, Rearrange
from ..kernels.ops import Op
from .graph import Constants, MapConstants, Node, Quantisation, Tensor
from .operands import Chain, Layout, links
from .sites import STORED, Site, stored_as


@dataclass(frozen=True, slots=True)
class Piece:
    """What one site adds to a graph. Constant maps are among the tensors, their elements among the constants."""

    nodes: tuple[Node, ...]
    tensors: tuple[Tensor, ...]
    constants: dict[str, Constants] = field(default_factory=dict)

    @property
    def fixed(self) -> tuple[str, ...]:
        """Names of constant maps."""
        return tuple(name for name, value in self.constants.items() if isinstance(value, MapConstants))


@dataclass(slots=True)
class Maps:
    """Collects the nodes, tensors and constants of a site while it is translated."""

    site: Site
    nodes: list[Node] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    constants: dict[str, Constants] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(node.name for node in self.site.members)

    def read(self, position: int, wanted: Layout) -> Tensor:
        """The operand at `position` in the layout that is wanted.

        Raises:
            UnsupportedError: no view and no few copies bring it there.
        """
        stored = self.site.inputs[position]
        assert stored is not None
        if stored in self.site.index.constants:
            return self._constant(position, stored, wanted)
        chain = links(self.site.index, stored)
        if chain.nodes or chain.base != stored:
            try:
                return self._through(position, chain, stored, wanted)
            except UnsupportedError:
                pass  # the CPU moves the elements, and the engine reads the result
        return self._through(position, Chain(self.site.index, stored, ()), stored, wanted)

    def _through(self, position: int, chain: Chain, stored: str, wanted: Layout) -> Tensor:
        held, given = self.site.layouts.of(chain.base), stored_as(self.site.index, chain.base)
        read = stored_as(self.site.index, stored)
        if held is None or given is None or read is None or self.site.index.shape(chain.base)[0] != 1:
            raise UnsupportedError(f"{chain.base} {list(self.site.index.shape(chain.base))} is no map of one scale")
        source = self.tensor(chain.base, held, *given)
        if not chain.nodes and held == wanted and given == read:
            return self._known(source)
        indices = wanted.place(chain.places(held))
        whole = indices.shape == held.shape and bool((indices.reshape(-1) == np.arange(indices.size)).all())
        if whole and given == read:
            return self._known(source)
        op = replace(Rearrange.of(held.shape, indices), keeps_integers=given != read)
        name = f"{self.site.node.name}.in{position}"
        self._known(source)
        made = self._known(Tensor(name, op.output, read[0], channels_last=wanted.channels_last, dtype=read[1]))
        self.nodes.append(Node(name, op, (source.name,), name, source=self.names))
        return made

    def _constant(self, position: int, stored: str, wanted: Layout) -> Tensor:
        """A constant operand, repeated along the axes where it has one element."""
        index = self.site.index
        found = stored_as(index, stored)
        assert found is not None
        if found[1] != "int8":
            raise UnsupportedError(f"constant {stored} of {found[1]}")
        values = index.constants[stored]
        shape = index.shape(stored if self.site.node.op_type == "Concat" else self.site.output)
        if wanted.shape[:2] == (1, 1):
            values = np.broadcast_to(values.reshape(-1), (wanted.shape[2],))
        else:
            values = np.broadcast_to(values, shape)
        name = f"{self.site.node.name}.constant{position}"
        self.constants[name] = MapConstants(np.ascontiguousarray(wanted.place(values)))
        return self._known(Tensor(name, wanted.shape, found[0]))

    def tensor(self, name: str, layout: Layout, quantisation: Quantisation, dtype: str) -> Tensor:
        """A stored tensor of the model in its own layout."""
        return Tensor(name, layout.shape, quantisation, self.site.index.shape(name)[1:], layout.channels_last, dtype)

    def result(self) -> Tensor:
        """The stored tensor that the site makes."""
        params, found = self.site.output_params, self.site.layouts.of(self.site.output)
        assert params is not None
        assert found is not None
        return self.tensor(self.site.output, found, params.as_tensor(), STORED[params.dtype])

    def between(self, suffix: str, like: Tensor, quantisation: Quantisation) -> Tensor:
        """A map inside of the piece."""
        return self._known(replace(like, name=f"{self.site.output}.{suffix}", quantisation=quantisation))

    def inner(self, suffix: str, op: Op | Movement, inputs: list[Tensor], output: Tensor) -> str:
        """Adds a node before the last one; returns its name."""
        name = f"{self.site.node.name}.{suffix}"
        self.nodes.append(Node(name, op, tuple(t.name for t in inputs), output.name, source=self.names))
        return name

    def finish(self, op: Op | Movement, inputs: list[Tensor], constants: Constants | None = None) -> Piece:
        """The piece, once the operator of the site is added; its result may be another shape of the same elements."""
        name, output = self.site.node.name, self.result()
        made = output.name
        if op.output != output.shape:
            made = f"{output.name}.shaped"
            self._known(Tensor(made, op.output, output.quantisation, channels_last=True, dtype=output.dtype))
        self.nodes.append(Node(name, op, tuple(t.name for t in inputs), made, self.site.clamp, self.names))
        if made != output.name:
            count = np.arange(op.output[0] * op.output[1] * op.output[2])
            shaped = Rearrange.of(op.output, count.reshape(output.shape))
            self.nodes.append(Node(f"{name}.shape", shaped, (made,), output.name, source=self.names))
        self._known(output)
        held = self.constants if constants is None else {**self.constants, name: constants}
        return Piece(tuple(self.nodes), tuple(self.tensors), held)

    def _known(self, tensor: Tensor) -> Tensor:
        if tensor not in self.tensors:
            self.tensors.append(tensor)
        return tensor
