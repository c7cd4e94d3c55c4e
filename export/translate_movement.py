"""Sites of operators that move elements → operators of the graph. `UnsupportedError` says what no view expresses."""

from __future__ import annotations

from ..common.errors import UnsupportedError
from ..kernels.movement_ops import Concat, DepthToSpace, Movement, Pad, Slice, SpaceToDepth, Transpose, TransposedConv2d
from ..kernels.ops import Shape, Window
from ..kernels.rescale import rescale_operands
from .graph import Tensor
from .onnx_model import attribute
from .phases import phases
from .sites import Site

MOVEMENTS = frozenset({"Concat", "Slice", "Pad", "Transpose", "DepthToSpace", "SpaceToDepth"})


def movement(site: Site, inputs: list[Tensor], output: Tensor) -> Movement:
    """The operator of a site of `MOVEMENTS`."""
    for tensor in inputs:
        rescale_operands(tensor.quantisation.scale / output.quantisation.scale)
    source = inputs[0].shape
    match site.node.op_type:
        case "Concat":
            return Concat(tuple(t.shape for t in inputs), map_axis(site, attribute(site.node, "axis", 0)))
        case "Slice":
            return _slice(site, source, output.shape)
        case "Pad":
            return _pad(site, source, output.shape)
        case "Transpose":
            return _transpose(site, source)
        case "DepthToSpace":
            order = attribute(site.node, "mode", "DCR")
            if order not in ("DCR", "CRD"):
                raise UnsupportedError(f"mode {order}")
            return DepthToSpace(source, attribute(site.node, "blocksize"), columns_first=order == "CRD")
        case _:
            return SpaceToDepth(source, attribute(site.node, "blocksize"))


def map_axis(site: Site, axis: int) -> int:
    """Axis of the feature map for an axis of the operator's input; the batch has none."""
    rank = len(site.index.shape(site.output))
    held = site.layouts.of(site.output)
    found = None if held is None else held.axis(axis, rank)
    if found is None:
        raise UnsupportedError(f"axis {axis} of {rank} dimensions")
    return found


def transposed(site: Site, source: Shape, output: Shape) -> TransposedConv2d:
    """The operator of a ConvTranspose, checked for phases that no window expresses."""
    assert site.weights is not None
    node, kernel = site.node, site.weights.values.shape[2:]
    if attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID") or attribute(node, "output_shape"):
        raise UnsupportedError("padding that follows from an output shape")
    strides, pads = attribute(node, "strides", [1, 1]), attribute(node, "pads", [0, 0, 0, 0])
    window = Window(kernel[0], kernel[1], strides[0], strides[1], pads[0], pads[1])
    op = TransposedConv2d(source, output, window, attribute(node, "group", 1) > 1)
    list(phases(op))
    return op


def _constants(site: Site, position: int, name: str) -> list[int] | None:
    """Constant integers at an input, None where it is left out."""
    given = site.node.input[position] if len(site.node.input) > position else ""
    if not given:
        return None
    if given not in site.index.constants:
        raise UnsupportedError(f"{name} {given} are computed at run time")
    return [int(v) for v in site.index.constants[given].reshape(-1)]


def _slice(site: Site, source: Shape, output: Shape) -> Slice:
    starts, ends = _constants(site, 1, "starts") or [], _constants(site, 2, "ends") or []
    axes = _constants(site, 3, "axes") or list(range(len(starts)))
    steps = _constants(site, 4, "steps") or [1] * len(starts)
    start, stride = [0, 0, 0], [1, 1, 1]
    shape = site.index.shape(site.node.input[0])
    for first, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = shape[axis]
        begin, stop, _ = slice(first, end, step).indices(size) if step > 0 else (0, 0, 0)
        if (begin, step) == (0, 1) and stop == size:
            continue
        if step < 1:
            raise UnsupportedError(f"step {step}")
        place = map_axis(site, axis)
        start[place], stride[place] = begin, step
    if stride[2] != 1:
        raise UnsupportedError(f"every {stride[2]}nd channel")
    return Slice(source, output, (start[0], start[1], start[2]), (stride[0], stride[1]))


def _pad(site: Site, source: Shape, output: Shape) -> Pad:
    mode, pads = attribute(site.node, "mode", "constant"), _constants(site, 1, "pads") or []
    fill = site.node.input[2] if len(site.node.input) > 2 else ""
    axes = _constants(site, 3, "axes") or list(range(len(site.index.shape(site.node.input[0]))))
    if mode != "constant" or (fill and not _is_zero(site, fill)):
        raise UnsupportedError(f"mode {mode}" if mode != "constant" else f"filled with {fill}")
    before = {axis: pads[number] for number, axis in enumerate(axes) if pads[number] or pads[number + len(axes)]}
    starts = {map_axis(site, axis): count for axis, count in before.items()}
    if 2 in starts:
        raise UnsupportedError(f"channels padded by {starts[2]}")
    return Pad(source, output, starts.get(0, 0), starts.get(1, 0))


def _is_zero(site: Site, name: str) -> bool:
    source = site.index.producer.get(name)
    if source is not None:  # a dequantised constant
        params = site.index.params(source) if source.op_type == "DequantizeLinear" else None
        stored = site.index.constants.get(source.input[0])
        return params is not None and stored is not None and bool((stored == params.zero_point).all())
    return name in site.index.constants and not site.index.constants[name].any()


def _transpose(site: Site, source: Shape) -> Transpose:
    order = list(attribute(site.node, "perm", []))
    held = site.layouts.of(site.output)
    if order != [0, 1, 3, 2] or held is None or held.channels_last:
        raise UnsupportedError(f"order {order}")
    return Transpose(source)
