"""Which operators the engine takes, as rules. The sentence under each rule is what the user reads when it refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

import numpy as np

from ..common.errors import UnsupportedError
from .attention_site import ATTENTION_RULES, AttentionRule, AttentionSite
from .onnx_model import DEQUANTISE, QUANTISE, attribute
from .operands import is_matrices, layout
from .patterns import FUNCTIONS, NORMALISATIONS, Normalisation, Unary
from .site_layouts import matrices, reduced_map_axes
from .sites import LINEAR, Site, clip_bounds, reduced_axes, stored_as
from .translate import translate
from .translate_movement import MOVEMENTS

Where: TypeAlias = Literal["engine", "cpu"]
Rule: TypeAlias = Callable[[Site], str | None]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one ONNX operator runs; on the CPU with the rule that refused it and the offending value, on the engine
    with the pattern that it is a part of, if that has a rule, and the operator that names it."""

    node: str
    op_type: str
    where: Where
    rule: str | None = None
    value: str | None = None

    @property
    def sentence(self) -> str:
        return "" if self.rule is None else sentence(self.rule)

    def as_dict(self) -> dict[str, str | None]:
        return {**asdict(self), "sentence": self.sentence or None}


def refusal(site: Site) -> tuple[str, str] | None:
    """Name and offending value of the first rule that refuses the site; None when the engine takes it."""
    for rule in (operator, *_rules(site)):
        value = rule(site)
        if value is not None:
            return rule_name(rule), value
    return None


def attention_refusal(site: AttentionSite) -> tuple[str, str] | None:
    """The same for cuboid attention."""
    found = ((rule, rule(site)) for rule in ATTENTION_RULES)
    return next(((rule_name(rule), value) for rule, value in found if value is not None), None)


def _rules(site: Site) -> tuple[Rule, ...]:
    match site.pattern:
        case Unary():
            return _FUNCTION
        case Normalisation():
            return _NORMALISATION
        case _ if site.is_product:
            return _PRODUCT
        case _:
            return _OPERATORS.get(site.node.op_type, ())


def operator(site: Site) -> str | None:
    """The engine executes convolutions, linear layers, sums, products, pooling, functions of an element and others."""
    domain = site.node.domain if site.node.domain != "ai.onnx" else ""
    if domain:
        return f"{domain}.{site.node.op_type}"
    return None if site.node.op_type in _OPERATORS else site.node.op_type


def quantised_input(site: Site) -> str | None:
    """Activations come from int8 tensors, or int16 ones of zero point 0, with one constant scale for all their uses."""
    for name, stored in zip(site.sources, site.inputs, strict=True):
        if stored is None:
            return f"{name} is a {'constant' if _is_constant(site, name) else 'float tensor'}"
        if stored_as(site.index, stored) is None:
            return f"{stored} is {site.index.dtype(stored)} or has several scales"
    return None


def _is_constant(site: Site, name: str) -> bool:
    source = site.index.producer.get(name)
    stored = source.input[0] if source is not None and source.op_type == DEQUANTISE else name
    return stored in site.index.constants


def quantised_output(site: Site) -> str | None:
    """The result goes, through Relu and Clip at most, into one QuantizeLinear to int8 or int16 with one scale."""
    if site.quantise is None:
        return f"{site.node.output[0]} is used as float"
    params = site.output_params
    if params is None or not params.per_tensor:
        return f"{site.output} has no single constant scale"
    return None if stored_as(site.index, site.output) else f"{site.output} is {params.dtype}"


def map_shapes(site: Site) -> str | None:
    """Activations are vectors (1, C), tokens (1, N, C), feature maps (1, C, H, W) or matrices (1, G, M, N)."""
    for name in (*site.activations, site.output):
        shape = site.index.shape(name)
        if layout(shape) is None or shape[0] != 1:
            return f"{name} {list(shape)}"
    return None


def constant_weights(site: Site) -> str | None:
    """Weights are int8 constants."""
    if site.weights is None:
        return f"{site.node.input[1]} is computed at run time"
    kind = site.weights.values.dtype
    return None if kind == np.int8 else f"{site.node.input[1]} is {kind}"


def weight_zero_point(site: Site) -> str | None:
    """Weights are symmetric: their zero point is 0."""
    assert site.weights is not None
    zeros = site.weights.params.zero_point
    return str(int(zeros[zeros != 0][0])) if np.any(zeros) else None


def weight_scales(site: Site) -> str | None:
    """Weights have one scale, or one for each output channel."""
    assert site.weights is not None
    params, values = site.weights.params, site.weights.values
    transposed = site.node.op_type in ("MatMul", "ConvTranspose") or (
        site.node.op_type == "Gemm" and not attribute(site.node, "transB", 0)
    )
    axis = 1 if transposed else 0
    if params.per_tensor or (params.axis % values.ndim == axis and params.scale.size == values.shape[axis]):
        return None
    return f"{params.scale.size} scales along axis {params.axis}"


def constant_bias(site: Site) -> str | None:
    """The bias is a constant with one value for each output channel."""
    name = site.node.input[2] if len(site.node.input) > 2 else ""
    if not name:
        return None
    source = site.index.producer.get(name)
    if source is not None and (source.op_type != DEQUANTISE or site.index.params(source) is None):
        return f"{name} is computed at run time"
    stored = name if source is None else source.input[0]
    if stored not in site.index.constants:
        return f"{name} is computed at run time"
    channels, size = site.index.shape(site.output)[1], site.index.constants[stored].size
    return None if size in (1, channels) else f"{size} values for {channels} channels"


def dilation(site: Site) -> str | None:
    """Windows are not dilated."""
    dilations = list(attribute(site.node, "dilations", [1, 1]))
    return None if all(d == 1 for d in dilations) else str(dilations)


def groups(site: Site) -> str | None:
    """A convolution is dense (one group), or depthwise with as many groups as input and output channels."""
    count = attribute(site.node, "group", 1)
    channels = site.index.shape(site.node.input[0])[1]
    assert site.weights is not None
    outputs, inputs = site.weights.values.shape[:2]
    fits = inputs * count == channels and (count == 1 or count == channels == outputs)
    return None if fits else f"{count} groups of {inputs} inputs, {channels} to {outputs} channels"


def transposed_groups(site: Site) -> str | None:
    """A transposed convolution is dense, or depthwise with as many groups as input and output channels."""
    count = attribute(site.node, "group", 1)
    assert site.weights is not None
    inputs, outputs = site.weights.values.shape[:2]
    return None if count == 1 or (count == inputs and outputs == 1) else f"{count} groups, {inputs} channels"


def plain_linear(site: Site) -> str | None:
    """A linear layer multiplies vectors or tokens by a matrix: alpha and beta are 1, the input is not transposed."""
    assert site.weights is not None
    settings = {
        name: attribute(site.node, name, default) for name, default in (("alpha", 1.0), ("beta", 1.0), ("transA", 0))
    }
    if settings != {"alpha": 1.0, "beta": 1.0, "transA": 0}:
        return ", ".join(f"{k}={v}" for k, v in settings.items())
    given, weights = site.index.shape(site.node.input[0]), site.weights.values.shape
    inner = weights[-1 if attribute(site.node, "transB", 0) else 0]
    fits = len(weights) == 2 and (len(given) == 2 or site.node.op_type == "MatMul") and given[-1] == inner
    return None if fits else f"{list(given)} times {list(weights)}"


def same_shapes(site: Site) -> str | None:
    """Both operands of an addition or subtraction have one shape; a constant may be repeated."""
    return None if _fit(site, gate=False) else " and ".join(str(list(site.index.shape(n))) for n in site.node.input)


def _fit(site: Site, *, gate: bool) -> bool:
    """Whether operands have the shape of the result; constants, which are not all there is, may be repeated to it,
    and with `gate` others may hold one value for each channel."""
    output = site.index.shape(site.output)
    held = site.layouts.of(site.output)
    if held is None or not site.activations or not any(site.index.shape(n) == output for n in site.activations):
        return False
    for name in site.stored_inputs:
        shape = site.index.shape(name)
        own = layout(shape, channels_last=held.channels_last)
        single = gate and own is not None and own.shape == (1, 1, held.shape[2])
        repeated = name in site.index.constants and _repeats(shape, output)
        if shape != output and not single and not repeated:
            return False
    return True


def _repeats(shape: tuple[int, ...], output: tuple[int, ...]) -> bool:
    pairs = zip(reversed(shape), reversed(output), strict=False)
    return len(shape) <= len(output) and all(a in (1, b) for a, b in pairs)


def constant_bounds(site: Site) -> str | None:
    """Bounds of a Clip are constants."""
    return None if clip_bounds(site.index, site.node) is not None else ", ".join(site.node.input[1:])


def reduction_axes(site: Site) -> str | None:
    """A mean, sum or maximum goes over the channels; a mean or maximum also over all tokens or positions of a map."""
    axes = reduced_map_axes(site)
    if axes == (2,) or (axes == (0, 1) and site.node.op_type != "ReduceSum"):
        return None
    given = reduced_axes(site)
    return f"axes {None if given is None else list(given)}"


def one_argument(site: Site) -> str | None:
    """A function of one tensor is computed element by element, its other operands being constants of one element."""
    if isinstance(site.pattern, Unary):
        return None
    return " and ".join(f"{name} {list(site.index.shape(name))}" for name in site.node.input if name)


def normalised_axes(site: Site) -> str | None:
    """A normalisation goes over the last axis or over groups of a map's channels, with constant scales of each."""
    if isinstance(site.pattern, Normalisation):
        return None
    axis = attribute(site.node, "axis", -1)
    return f"axis {axis} of {list(site.index.shape(site.node.input[0]))}"


def softmax_axis(site: Site) -> str | None:
    """A softmax goes over the channels of a map, or over the last axis."""
    axis = attribute(site.node, "axis", -1) % len(site.index.shape(site.node.input[0]))
    return None if axis == 1 or is_matrices(site.index, site.node) else f"axis {axis}"


def product_shapes(site: Site) -> str | None:
    """The factors of a product have one shape, or one of them has a single value for each channel of the other."""
    return None if _fit(site, gate=True) else " and ".join(str(list(site.index.shape(n))) for n in site.node.input)


def matrix_shapes(site: Site) -> str | None:
    """Two activations are multiplied as equally many matrices (1, M, N) or (1, G, M, N), none of them repeated."""
    a, b = (matrices(site.index.shape(name)) for name in site.stored_inputs)
    if a is not None and b is not None and a.shape[0] == b.shape[0]:
        return None
    return " and ".join(str(list(site.index.shape(n))) for n in site.node.input)


def resize_settings(site: Site) -> str | None:
    """A resize takes the nearest element or interpolates linearly, and changes height and width by constants only."""
    node = site.node
    if attribute(node, "mode", "nearest") not in ("nearest", "linear") or attribute(node, "antialias", 0):
        return f"mode {attribute(node, 'mode')}, antialias {attribute(node, 'antialias', 0)}"
    source, output = site.index.shape(node.input[0]), site.index.shape(site.output)
    if len(source) != 4 or source[:2] != output[:2]:
        return f"{list(source)} to {list(output)}"
    computed = [name for name in node.input[2:] if name and name not in site.index.constants]
    return f"{computed[0]} is computed at run time" if computed else None


def single_result(site: Site) -> str | None:
    """A pool gives its values only, no indices."""
    return None if sum(map(bool, site.node.output)) == 1 else str(site.node.output[1])


def moved_whole(site: Site) -> str | None:
    """Maps are joined, cut by constants, padded with zeros, transposed, or blocks of positions turned into channels."""
    return kernel_limits(site)


def kernel_limits(site: Site) -> str | None:
    """Windows, scales and sums lie inside of what the kernels and int32 accumulators can express."""
    try:
        translate(site)
    except UnsupportedError as error:
        return error.what
    return None


_QUANTISED: tuple[Rule, ...] = (quantised_input, quantised_output, map_shapes)
_WEIGHTED: tuple[Rule, ...] = (constant_weights, *_QUANTISED, weight_zero_point, weight_scales, constant_bias)
_OPERATORS: dict[str, tuple[Rule, ...]] = {
    "Conv": (*_WEIGHTED, dilation, groups, kernel_limits),
    "ConvTranspose": (*_WEIGHTED, dilation, transposed_groups, kernel_limits),
    **{name: (*_QUANTISED, moved_whole) for name in sorted(MOVEMENTS)},
    **{name: (*_WEIGHTED, plain_linear, kernel_limits) for name in sorted(LINEAR)},
    "Add": (*_QUANTISED, same_shapes, kernel_limits),
    "MaxPool": (single_result, *_QUANTISED, dilation, kernel_limits),
    "AveragePool": (*_QUANTISED, dilation, kernel_limits),
    "GlobalAveragePool": (*_QUANTISED, kernel_limits),
    **dict.fromkeys(("ReduceMean", "ReduceMax", "ReduceSum"), (*_QUANTISED, reduction_axes, kernel_limits)),
    "Sub": (*_QUANTISED, same_shapes, kernel_limits),
    "Mul": (*_QUANTISED, product_shapes, kernel_limits),
    "Softmax": (*_QUANTISED, softmax_axis, kernel_limits),
    "Resize": (*_QUANTISED, resize_settings, kernel_limits),
    **dict.fromkeys(sorted(NORMALISATIONS), (normalised_axes, *_QUANTISED, kernel_limits)),
    "Relu": (*_QUANTISED, kernel_limits),
    "Clip": (*_QUANTISED, constant_bounds, kernel_limits),
    QUANTISE: (*_QUANTISED, kernel_limits),
}
_PRODUCT: tuple[Rule, ...] = (*_QUANTISED, matrix_shapes, kernel_limits)
_FUNCTION: tuple[Rule, ...] = (one_argument, *_QUANTISED, kernel_limits)
_NORMALISATION: tuple[Rule, ...] = (*_QUANTISED, kernel_limits)
_OPERATORS |= {name: _FUNCTION for name in sorted(FUNCTIONS) if name not in _OPERATORS}


def border(_: Site) -> str | None:
    """QuantizeLinear and DequantizeLinear between the engine and float operators run on the CPU."""
    return None


def view(_: Site) -> str | None:
    """A reshape whose result the CPU reads is done by the CPU."""
    return None


def tiling(_: Site) -> str | None:
    """The compiler found a tiling of the operator that fits the memories of the engine."""
    return None


def cuboid_attention(_: AttentionSite) -> str | None:
    """Cuboid attention, from its normalisation to its projection, is one operator of the engine."""
    return None


_EXPLANATIONS: tuple[Rule, ...] = (border, view, tiling)


def rule_name(rule: Rule | AttentionRule) -> str:
    return rule.__name__.replace("_", "-")  # type: ignore[attr-defined]


def sentence(name: str) -> str:
    """What rule `name` demands, as one sentence."""
    return _RULES[name].__doc__ or ""


def support_table() -> Iterator[tuple[str, str, str]]:
    """(operator, rule, sentence) for every rule that an operator must meet to run on the engine."""
    for name, rules in _OPERATORS.items():
        for rule in rules:
            yield name, rule_name(rule), sentence(rule_name(rule))
    for rule in ATTENTION_RULES:
        yield "cuboid attention", rule_name(rule), sentence(rule_name(rule))


_RULES: dict[str, Rule | AttentionRule] = {
    rule_name(r): r for r in (operator, *_EXPLANATIONS, *_PRODUCT, *(r for rules in _OPERATORS.values() for r in rules))
}
_RULES |= {rule_name(r): r for r in (cuboid_attention, *ATTENTION_RULES)}
