"""Operators that move elements, taken out of a graph before it is planned: most of them cost nothing.

* Concatenation: its operands are written where they belong in the whole map, by the views of their producers.
  An operand is copied (an identity requantisation) when it comes from or goes to the host, lies in another map
  already, or has another scale.
* Slices, splits and row-column transposition: readers get a view of the map. Only what goes to the host is copied.
* Padding: convolutions read it from their window. For other readers the map is written with zeros around it.
* Other shapes of the same elements, heads, turned matrices (`Rearrange`): a view, of the operand or of the result, or
  a product that reads its second matrix turned; the rest is copied element by element by the vector unit.
* Depth to space and back: one copy for each position of a block, from and to strided views.
* Transposed convolution: one convolution for each position of a stride × stride block, with the taps that reach it,
  written to a strided view. No zero is multiplied and no product computed twice.
* Nearest upsampling in front of a convolution: the same, where sums of weights allow it (`upsampled.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from ..common.errors import UnsupportedError
from ..kernels.element_types import full_range, output_name
from ..kernels.function_ops import Resize
from ..kernels.movement_ops import (
    Concat,
    DepthToSpace,
    Movement,
    Pad,
    Rearrange,
    Slice,
    SpaceToDepth,
    Transpose,
    TransposedConv2d,
)
from ..kernels.ops import Conv2d, MatMul, Pool2d, Requantise, Shape, Window
from .graph import ConvConstants, Graph, Node, Tensor, View
from .phases import Phase, phase_constants, phases
from .strided import composes, gathered, has_channels, pieces, scattered, stays_inside, turned
from .upsampled import factors, folds


def moves(graph: Graph) -> bool:
    """True when `expand` would change the graph."""
    return any(isinstance(node.op, Movement | Resize) for node in graph.nodes)


def expand(graph: Graph, *, share: bool = True) -> Graph:
    """The graph without movement operators. `share=False`: maps with other readers are copied into concatenations,
    which costs time but lets a map that waits for its concatenation lie alone meanwhile.

    Raises:
        UnsupportedError: a transposed convolution leaves rows or columns that no tap reaches.
    """
    if not moves(graph):
        return graph
    found = _Expander(graph, share)
    for node in graph.nodes:
        found.add(node)
    return Graph(
        tuple(found.nodes), found.tensors, graph.inputs, graph.outputs, found.constants, found.views, graph.fixed
    )


class _Expander:
    """The new graph as it grows."""

    def __init__(self, graph: Graph, share: bool) -> None:
        self.graph, self.share = graph, share
        self.nodes: list[Node] = []
        self.tensors = dict(graph.tensors)
        self.views = dict(graph.views)
        own = (*(node.name for node in graph.nodes), *graph.fixed)
        self.constants = {name: graph.constants[name] for name in own if name in graph.constants}
        self.padded: dict[str, tuple[str, int, int]] = {}
        self.folded: dict[str, tuple[str, list[tuple[Phase, ConvConstants]]]] = {}
        self.repeats: dict[str, tuple[int, int]] = {}
        self.turned: dict[str, View] = {}
        self.copied: dict[tuple[str, Rearrange], str] = {}

    def add(self, node: Node) -> None:
        op = node.op
        match op:
            case Concat():
                self._concat(node, op)
            case Slice():
                steps = op.steps
                self._read(node, View(node.inputs[0], op.start, (steps[0], 0, 0), (0, steps[1], 0)))
            case Transpose():
                self._read(node, View(node.inputs[0], row_step=(0, 1, 0), col_step=(1, 0, 0)))
            case Rearrange():
                self._rearrange(node, op)
            case MatMul() if node.inputs[1] in self.turned:
                self._product(node, op)
            case Pad():
                self._pad(node, op)
            case DepthToSpace() | SpaceToDepth():
                if isinstance(op, DepthToSpace) and op.columns_first:
                    self._reorder(node, op)
                self._blocks(node, op)
            case TransposedConv2d():
                self._transposed(node, op)
            case Resize() if self._folds(node, op):
                pass
            case Conv2d() if node.inputs[0] in self.folded:
                source, parts = self.folded[node.inputs[0]]
                self._phased(node, source, self.repeats[node.inputs[0]], parts)
            case Conv2d() if node.inputs[0] in self.padded:
                name, top, left = self.padded[node.inputs[0]]
                folded = _padded(op, self.tensors[name].shape, top, left)
                self.nodes.append(replace(node, op=folded, inputs=(name,)))
            case _:
                self.nodes.append(node)

    def _concat(self, node: Node, op: Concat) -> None:
        placed: set[str] = set()
        for number, (name, start) in enumerate(zip(node.inputs, op.starts, strict=True)):
            place = View(node.output, start)
            if name not in placed and self._may_share(node, name):
                self._move(name, place)
            else:
                self._copy(node, str(number), name, place)
            placed.add(name)

    def _may_share(self, node: Node, name: str) -> bool:
        """Whether the producer of operand `name` can write it straight into the result of `node`."""
        ports, to_host = self._outside, node.output in self.graph.outputs
        same = self._same(name, node.output) and _unclamped(node)
        if not same or name in ports or name in self.views:
            return False
        own = self.tensors[name].shape
        if not all(stays_inside(v, self.tensors[part].shape, own) for part, v in self._parts_of(name)):
            return False
        only = sum(other.inputs.count(name) for other in self.graph.consumers(name)) == 1
        scattered = any(v.whole == name and _strided(v) for v in self.views.values())
        return (only or (self.share and not to_host)) and not (scattered and to_host)

    @property
    def _outside(self) -> set[str]:
        """Maps that are not for the graph to place: the host's, and constants."""
        return {*self.graph.inputs, *self.graph.outputs, *self.graph.fixed}

    def _parts_of(self, name: str) -> list[tuple[str, View]]:
        return [(part, view) for part, view in self.views.items() if view.whole == name]

    def _move(self, name: str, place: View) -> None:
        """`name`, and all that lies in it, becomes part of another map."""
        self.views |= {part: view.inside(place) for part, view in self.views.items() if view.whole == name}
        self.views[name] = place
        if place.whole in self.views:  # cannot happen: maps are placed before what contains them
            raise UnsupportedError(f"{place.whole!r} lies in another map already")

    def _read(self, node: Node, view: View) -> None:
        """The result of `node` is a view of its operand, or a copy out of it where the host takes the result."""
        source, output = self.tensors[node.inputs[0]], self.tensors[node.output]
        free = node.output not in self.graph.outputs and _unclamped(node)
        name = node.output if free and self._same(source.name, output.name) else f"{node.output}.part"
        self.tensors[name] = replace(output, name=name, quantisation=source.quantisation)
        self.views[name] = view.inside(self.views[view.whole]) if view.whole in self.views else view
        if name != node.output:
            self._emit(node, "", _copying(output.shape, output.dtype), name, node.output)

    def _copy(self, node: Node, label: str, source: str, place: View, part: View | None = None) -> None:
        """An identity (or a change of scale) from `source`, or the part of it that `part` views, to `place`."""
        shape = self.tensors[source].shape
        if part is not None:
            shape = self._part_shape(node)
            name = f"{node.output}.from{label}"
            self.tensors[name] = replace(self.tensors[source], name=name, shape=shape, host_shape=())
            self.views[name] = part.inside(self.views[source]) if source in self.views else part
            source = name
        target = f"{node.output}.part{label}"
        self.tensors[target] = replace(self.tensors[place.whole], name=target, shape=shape, host_shape=())
        self.views[target] = place
        self._emit(node, label, _copying(shape, self.tensors[source].dtype), source, target)

    def _part_shape(self, node: Node) -> Shape:
        """Rows, columns and channels that depth to space, or its inverse, moves for one position of a block."""
        deep = self.tensors[node.inputs[0]] if isinstance(node.op, DepthToSpace) else self.tensors[node.output]
        flat = self.tensors[node.output] if isinstance(node.op, DepthToSpace) else self.tensors[node.inputs[0]]
        return deep.shape[0], deep.shape[1], flat.shape[2]

    def _emit(self, node: Node, label: str, op: Requantise | Pool2d, source: str, target: str) -> None:
        copies = _unclamped(node) and self._same(source, target)
        self.nodes.append(Node(f"{node.name}.copy{label}", op, (source,), target, node.clamp, node.source, copies))

    def _rearrange(self, node: Node, op: Rearrange) -> None:
        """A view either way, a product that reads its matrix turned, or copies."""
        source, result = node.inputs[0], node.output
        same = (op.keeps_integers or self._same(source, result)) and _unclamped(node)
        to_host = result in self.graph.outputs
        place, found = scattered(op, result), gathered(op, source)
        if place is not None and has_channels(place) and same and self._becomes_part(node, place):
            self._move(source, place)
        elif found is None or not same or to_host or not self._seen(found, op):
            self._carry(node, op)
        elif has_channels(found):
            self.views[result] = found.inside(self.views[source]) if source in self.views else found
        elif found.col_step == (0, 0, 1) and all(_is_factor(reader, result) for reader in self.graph.consumers(result)):
            self.turned[result] = found.inside(self.views[source]) if source in self.views else found
        else:
            self._carry(node, op)

    def _becomes_part(self, node: Node, place: View) -> bool:
        """Whether the producer of the operand can write it as a part of the result, which nobody else then needs."""
        source, result = (self.tensors[name] for name in (node.inputs[0], node.output))
        plain = result.channels_last or node.output not in self.graph.outputs
        lone = sum(1 for _ in self.graph.consumers(source.name)) == 1
        made = any(other.output == source.name for other in self.nodes)
        seen = all(
            composes(view, self.tensors[part].shape, source.shape, place, result.shape)
            for part, view in self._parts_of(source.name)
        )
        return plain and lone and made and seen and source.name not in self._outside | self.views.keys()

    def _seen(self, found: View, op: Rearrange) -> bool:
        """Whether a view of an operand can be expressed in the memory that the operand lies in."""
        outer = self.views.get(found.whole)
        root = self.tensors[outer.whole if outer else found.whole]
        if root.name in self.graph.inputs and not root.channels_last and not stays_inside(found, op.output, op.input):
            return False  # the host's order of elements has other steps
        return outer is None or composes(found, op.output, op.input, outer, root.shape)

    def _product(self, node: Node, op: MatMul) -> None:
        """A product whose second matrix lies turned in its memory."""
        view, shape = turned(self.turned[node.inputs[1]], op.other)
        name = f"{node.inputs[1]}.turned"
        self.tensors[name] = replace(self.tensors[node.inputs[1]], name=name, shape=shape, host_shape=())
        self.views[name] = view
        turned_op = replace(op, other=shape, transposed=not op.transposed)
        self.nodes.append(replace(node, op=turned_op, inputs=(node.inputs[0], name)))

    def _carry(self, node: Node, op: Rearrange) -> None:
        """Copies out of the operand, which is first brought into a map of its own where steps need that."""
        source, whole = node.inputs[0], self._whole(node)
        key, to_host = (source, op), node.output in self.graph.outputs
        if key in self.copied and not to_host and self._same(self.copied[key], node.output):
            alias = View(self.copied[key])
            outer = self.views.get(alias.whole)
            self.views[node.output] = alias.inside(outer) if outer else alias
            return
        parts = list(pieces(op, source, whole))
        if source in self.views or source in self.graph.inputs:
            dense = f"{node.output}.dense"
            self.tensors[dense] = replace(self.tensors[source], name=dense, host_shape=())
            copy, clamp = _copying(op.input, op.dtype), full_range(op.dtype)
            self.nodes.append(Node(f"{node.name}.dense", copy, (source,), dense, clamp, node.source, copies=True))
            source = dense
        for number, (shape, read, place) in enumerate(parts):
            names = f"{node.output}.from{number}", f"{node.output}.part{number}"
            for name, like, where in zip(names, (source, whole), (read, place), strict=True):
                kept = self.tensors[whole if op.keeps_integers else like].quantisation
                self.tensors[name] = replace(
                    self.tensors[like], name=name, shape=shape, host_shape=(), quantisation=kept
                )
                self.views[name] = replace(where, whole=like)
            self._emit(node, str(number), _copying(shape, op.dtype), *names)
        self.copied[key] = whole
        self._deliver(node)

    def _pad(self, node: Node, op: Pad) -> None:
        source = node.inputs[0]
        readers = list(self.graph.consumers(node.output))
        unchanged = self._same(source, node.output) and _unclamped(node) and node.output not in self.graph.outputs
        if readers and unchanged and all(_fits(reader, op) for reader in readers):
            self.padded[node.output] = source, op.top, op.left
            return
        pool = Pool2d(op.input, op.output, Window(1, 1, 1, 1, op.top, op.left), maximum=False, dtype=op.dtype)
        self._emit(node, "", pool if pool.pads else _copying(op.output, op.dtype), source, node.output)

    def _blocks(self, node: Node, op: DepthToSpace | SpaceToDepth) -> None:
        source = node.inputs[0]
        depth = op.output[2] if isinstance(op, DepthToSpace) else op.input[2]
        for i in range(op.block):
            for j in range(op.block):
                channels = (0, 0, (i * op.block + j) * depth)
                spread = ((i, j, 0), (op.block, 0, 0), (0, op.block, 0))
                if isinstance(op, DepthToSpace):
                    part, place = View(source, channels), View(self._whole(node), *spread)
                else:
                    part, place = View(source, *spread), View(node.output, channels)
                self._copy(node, f"{i}{j}", source, place, part)
        if isinstance(op, DepthToSpace):
            self._deliver(node)

    def _reorder(self, node: Node, op: DepthToSpace) -> None:
        """The convolution in front gives its channels in the other order."""
        source = node.inputs[0]
        maker = next((n for n in self.nodes if n.output == source), None)
        lone = sum(1 for _ in self.graph.consumers(source)) == 1 and source not in self.graph.outputs
        if maker is None or not isinstance(maker.op, Conv2d) or maker.op.depthwise or not lone:
            raise UnsupportedError(
                "channels in the order CRD behind anything but a convolution", where=f"node {node.name!r}"
            )
        constants = self.constants.get(maker.name)
        if isinstance(constants, ConvConstants):
            order = np.arange(op.input[2]).reshape(-1, op.block, op.block).transpose(1, 2, 0).reshape(-1)
            c = constants
            self.constants[maker.name] = ConvConstants(c.weights[order], c.bias[order], c.scales[order])

    def _transposed(self, node: Node, op: TransposedConv2d) -> None:
        weighted = node.name in self.graph.constants
        parts = [(phase, phase_constants(self.graph, node, phase) if weighted else None) for phase in phases(op)]
        self._phased(node, node.inputs[0], (op.window.stride_h, op.window.stride_w), parts)

    def _folds(self, node: Node, op: Resize) -> bool:
        """Remembers the phases of the only reader of an upsampling that no other operator needs."""
        readers = list(self.graph.consumers(node.output))
        repeats = factors(op)
        constants = self.graph.constants.get(readers[0].name) if len(readers) == 1 else None
        unchanged = self._same(node.inputs[0], node.output) and _unclamped(node)
        if repeats is None or not unchanged or node.output in self.graph.outputs:
            return False
        if not isinstance(constants, ConvConstants) or not isinstance(readers[0].op, Conv2d):
            return False
        parts = folds(readers[0].op, op.input, repeats, constants)
        if parts is not None:
            self.folded[node.output], self.repeats[node.output] = (node.inputs[0], parts), repeats
        return parts is not None

    def _phased(
        self, node: Node, source: str, steps: tuple[int, int], parts: Sequence[tuple[Phase, ConvConstants | None]]
    ) -> None:
        """One convolution of `source` for each phase, written to every `steps`-th row and column of the result."""
        self.constants.pop(node.name, None)
        for phase, constants in parts:
            label = f".phase{phase.row}{phase.col}"
            target, shape = f"{node.output}{label}", phase.conv.output
            self.tensors[target] = replace(self.tensors[node.output], name=target, shape=shape, host_shape=())
            self.views[target] = View(self._whole(node), (phase.row, phase.col, 0), (steps[0], 0, 0), (0, steps[1], 0))
            name = f"{node.name}{label}"
            inputs = (self._under(node, source, phase),)
            self.nodes.append(replace(node, name=name, op=phase.conv, output=target, inputs=inputs))
            if constants is not None:
                self.constants[name] = constants
        self._deliver(node)

    def _under(self, node: Node, source: str, phase: Phase) -> str:
        """The input of a phase: from its first row and column on."""
        if phase.start == (0, 0):
            return source
        name = f"{node.output}.from{phase.start[0]}_{phase.start[1]}"
        if name not in self.tensors:
            self.tensors[name] = replace(self.tensors[source], name=name, shape=phase.conv.input, host_shape=())
            view = View(source, (*phase.start, 0))
            self.views[name] = view.inside(self.views[source]) if source in self.views else view
        return name

    def _whole(self, node: Node) -> str:
        """Where strided parts of the result are written. The host's order of elements would cost a burst for each."""
        if node.output not in self.graph.outputs:
            return node.output
        name = f"{node.output}.whole"
        self.tensors[name] = replace(self.tensors[node.output], name=name)
        return name

    def _deliver(self, node: Node) -> None:
        whole = self._whole(node)
        if whole != node.output:
            tensor, name = self.tensors[whole], f"{node.name}.copy"
            copy, clamp = _copying(tensor.shape, tensor.dtype), full_range(tensor.dtype)
            self.nodes.append(Node(name, copy, (whole,), node.output, clamp, node.source, copies=True))

    def _same(self, a: str, b: str) -> bool:
        return _stored_as(self.tensors[a]) == _stored_as(self.tensors[b])


def _is_factor(reader: Node, name: str) -> bool:
    """Whether `name` is the second matrix of a product, and nothing else."""
    return isinstance(reader.op, MatMul) and reader.inputs[1] == name != reader.inputs[0]


def _unclamped(node: Node) -> bool:
    return tuple(node.clamp) == full_range(output_name(node.op))


def _copying(shape: Shape, dtype: str) -> Requantise:
    return Requantise(shape, dtype, dtype)


def _stored_as(tensor: Tensor) -> object:
    return tensor.quantisation, tensor.dtype


def _strided(view: View) -> bool:
    return (view.row_step, view.col_step) != ((1, 0, 0), (0, 1, 0))


def _padded(op: Conv2d, source: Shape, top: int, left: int) -> Conv2d:
    window = replace(op.window, pad_h=op.window.pad_h + top, pad_w=op.window.pad_w + left)
    return Conv2d(source, op.output, window, op.depthwise, op.dtype)


def _fits(reader: Node, pad: Pad) -> bool:
    """True for a convolution whose window can take the padding over."""
    if not isinstance(reader.op, Conv2d):
        return False
    try:
        _padded(reader.op, pad.input, pad.top, pad.left)
    except UnsupportedError:
        return False
    return True


def expansions(graph: Graph) -> Iterator[Graph]:
    """The ways to expand a graph that are worth comparing; the first one copies least."""
    first = expand(graph)
    yield first
    if first.views:
        second = expand(graph, share=False)
        if second.views != first.views:
            yield second
