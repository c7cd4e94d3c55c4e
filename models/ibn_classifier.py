"""Family `ibn-classifier`: stem, stages of blocks, optional head convolution, global average pooling, linear.

Every block is one of
    ibn    inverted bottleneck: 1×1 expand → k×k depthwise → 1×1 project (Sandler et al. 2018); no expand at expansion 1
    fused  fused inverted bottleneck: k×k convolution to the expanded width → 1×1 project (EfficientNet-EdgeTPU, 2019)
    conv   one k×k convolution
Projections have no activation. A block that keeps its shape adds its input to its output. The first block of a
stage carries the stage's stride. The space spans small maps and narrow stages; `check` allows much more, such as
the seven stages of MobileNetV2 (`baselines.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from ..common.errors import InputError
from .architecture import Architecture, Knob, KnobValue
from .family import Family, missing_knob, unknown_knob
from .layers import INPUT, BlockForm, LayerBlock, LayerBuilder, LayerSpec, MapShape
from .rules import Number, OneOf, Rule, Whole, enforce

FAMILY_NAME = "ibn-classifier"
BLOCKS = ("ibn", "fused", "conv")
MAX_STAGES = 8
MAX_DEPTH = 8
CHANNEL_DIVISOR = 4

_CHANNELS = Whole(1, 4096)
_KERNEL, _STRIDE = OneOf((1, 3, 5, 7)), OneOf((1, 2))
_GLOBAL_RULES: dict[str, Rule] = {
    "resolution": Whole(4, 1024),
    "activation": OneOf(("relu", "relu6")),
    "depth_multiplier": Number(0.05, 4.0),
    "stem_channels": _CHANNELS,
    "stem_kernel": _KERNEL,
    "stem_stride": _STRIDE,
    "head_channels": Whole(0, 4096),
    "stages": Whole(1, MAX_STAGES),
}
_STAGE_RULES: dict[str, Rule] = {
    "depth": Whole(1, MAX_DEPTH),
    "block": OneOf(BLOCKS),
    "expansion": Number(0.25, 16.0),
    "kernel": _KERNEL,
    "channels": _CHANNELS,
    "stride": _STRIDE,
}
_STAGE_KNOB = re.compile(r"stage(\d)_(depth|expansion|kernel|channels|stride|block)(\d?)")

_SPACE_DEPTH = 3
_SPACE_CHANNELS = (
    (8, 12, 16, 20, 24, 32),
    (12, 16, 20, 24, 32, 40, 48),
    (16, 24, 32, 40, 48, 56, 64),
    (24, 32, 40, 48, 64, 80, 96),
    (32, 40, 48, 64, 80, 96, 112, 128),
)


class IbnClassifier(Family):
    name = FAMILY_NAME
    summary = "image classifier of inverted bottlenecks, fused ones and plain convolutions"

    def knobs(self) -> tuple[Knob, ...]:
        return _global_knobs() + tuple(knob for k in range(1, len(_SPACE_CHANNELS) + 1) for knob in _stage_knobs(k))

    def is_active(self, name: str, values: Mapping[str, KnobValue]) -> bool:
        if name in _GLOBAL_RULES:
            return True
        stage, kind, block = _parse(name)
        if stage > _whole(values, "stages"):
            return False
        if kind == "block":
            return block <= _whole(values, f"stage{stage}_depth")
        return kind != "expansion" or any(block != "conv" for block in _blocks(values, stage))

    def active_knobs(self, architecture: Architecture) -> tuple[str, ...]:
        values = self.own(architecture)
        names = list(_GLOBAL_RULES)
        for stage in range(1, _whole(values, "stages") + 1):
            expanding = any(block != "conv" for block in _blocks(values, stage))
            blocks = _block_names(stage)[: _whole(values, f"stage{stage}_depth")]
            names += [*(name for kind, name in _stage_names(stage) if expanding or kind != "expansion"), *blocks]
        return tuple(names)

    def check(self, architecture: Architecture) -> None:
        values = self.own(architecture)
        for name, value in values.items():
            _enforce(name, value)
        for name in self.active_knobs(architecture):
            if name not in values:
                raise missing_knob(name, str(_rule(name)))

    def input_shape(self, architecture: Architecture, channels: int) -> MapShape:
        size = _whole(self.own(architecture), "resolution")
        return channels, size, size

    def layers(self, architecture: Architecture, *, input_channels: int, classes: int) -> tuple[LayerSpec, ...]:
        blocks = self.blocks(architecture, input_channels=input_channels, classes=classes)
        return tuple(layer for block in blocks for layer in block.layers)

    def blocks(self, architecture: Architecture, *, input_channels: int, classes: int) -> tuple[LayerBlock, ...]:
        """The stem, each block of each stage, and the head with the classifier."""
        self.check(architecture)
        if min(input_channels, classes) < 1:
            raise InputError(f"a network needs inputs and classes, got {input_channels} channels and {classes} classes")
        values = architecture.values
        activation, multiplier = str(values["activation"]), float(values["depth_multiplier"])
        width = scaled_channels(int(values["stem_channels"]), multiplier)
        window, size = (int(values["stem_kernel"]), int(values["stem_stride"])), int(values["resolution"])
        found = [_stem((input_channels, size, size), width, window, activation)]
        for stage in range(1, int(values["stages"]) + 1):
            _add_stage(found, values, stage, multiplier, activation)
        head = int(values["head_channels"])
        width = scaled_channels(head, multiplier) if head else 0
        return (*found, _placed(_head(found[-1].shape, width, activation, classes), "", found[-1].last))


def scaled_channels(channels: int, multiplier: float) -> int:
    """`channels` × `multiplier` to the nearest multiple of 4, at least 4; unchanged at multiplier 1.

    The multiplier has the meaning of TF-slim's `depth_multiplier`: it scales the number of feature maps of every
    layer. As there, rounding never takes away more than a tenth.
    """
    return channels if multiplier == 1 else round_channels(channels * multiplier, CHANNEL_DIVISOR)


def round_channels(channels: float, divisor: int) -> int:
    """The nearest multiple of `divisor` (halves round up), or the next one when that is below 90 % of `channels`."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


def _add_stage(
    found: list[LayerBlock], values: Mapping[str, KnobValue], stage: int, multiplier: float, activation: str
) -> None:
    names = dict(_stage_names(stage))
    channels, kernel = scaled_channels(int(values[names["channels"]]), multiplier), int(values[names["kernel"]])
    expansion = float(values.get(names["expansion"], 1))  # inactive when every block is a plain convolution
    stride = int(values[names["stride"]])
    for name in _block_names(stage)[: int(values[names["depth"]])]:
        before, kind = found[-1], str(values[name])
        expanded = expansion if kind != "conv" else 1.0
        form = _form(kind, before.shape, expanded, channels, kernel, stride, activation)
        found.append(_placed(form, name, before.last))
        stride = 1


@lru_cache(maxsize=1024)
def _stem(shape: MapShape, channels: int, window: tuple[int, int], activation: str) -> LayerBlock:
    net = LayerBuilder(shape)
    net.conv("stem", channels, kernel=window[0], stride=window[1], activation=activation)
    return net.block()


@lru_cache(maxsize=32768)
def _placed(form: BlockForm, name: str, before: str) -> LayerBlock:
    return LayerBlock(form, name, before)


@lru_cache(maxsize=32768)
def _form(
    kind: str, shape: MapShape, expansion: float, channels: int, kernel: int, stride: int, activation: str
) -> BlockForm:
    """One block of a stage on a map of `shape`."""
    net, hidden = LayerBuilder(shape), max(1, round(shape[0] * expansion))
    if kind == "ibn":
        if expansion != 1:
            net.conv("_expand", hidden, activation=activation)
        net.depthwise("_depthwise", kernel=kernel, stride=stride, activation=activation)
        net.conv("_project", channels)
    elif kind == "fused":
        net.conv("_fused", hidden, kernel=kernel, stride=stride, activation=activation)
        net.conv("_project", channels)
    else:
        net.conv("_conv", channels, kernel=kernel, stride=stride, activation=activation)
    if net.shape == shape and stride == 1:
        net.add("_add", INPUT)
    return net.form()


@lru_cache(maxsize=4096)
def _head(shape: MapShape, channels: int, activation: str, classes: int) -> BlockForm:
    """1×1 convolution to `channels` (0: none), pooling, linear layer."""
    net = LayerBuilder(shape)
    if channels:
        net.conv("head", channels, activation=activation)
    net.classifier(classes)
    return net.form()


def _global_knobs() -> tuple[Knob, ...]:
    return (
        Knob("resolution", (16, 20, 24, 28, 32), "resolution", "height and width of the input"),
        Knob("activation", ("relu", "relu6"), "activation", "after every layer but projections and sums"),
        Knob("depth_multiplier", (0.5, 0.75, 1, 1.25), "multiplier", "scales the channels of every layer"),
        Knob("stem_channels", (8, 12, 16, 20, 24, 32), "channels", "output of the first convolution"),
        Knob("stem_kernel", (3, 5), "kernel", "window of the first convolution"),
        Knob("stem_stride", (1, 2), "stride", "step of the first convolution"),
        Knob("head_channels", (0, 64, 96, 128, 192, 256), "channels", "1x1 convolution before pooling; 0 for none"),
        Knob("stages", tuple(range(2, len(_SPACE_CHANNELS) + 1)), "depth", "number of stages"),
    )


def _stage_knobs(stage: int) -> tuple[Knob, ...]:
    prefix, depths = f"stage{stage}_", range(1, _SPACE_DEPTH + 1)
    blocks = (Knob(f"{prefix}block{i}", BLOCKS, "block", f"kind of block {i} of stage {stage}") for i in depths)
    return (
        Knob(f"{prefix}depth", tuple(depths), "depth", f"blocks in stage {stage}"),
        *blocks,
        Knob(
            f"{prefix}expansion",
            (1, 2, 3, 4, 6),
            "expansion",
            "inner channels of ibn and fused blocks per input channel",
        ),
        Knob(f"{prefix}kernel", (3, 5), "kernel", f"window of the blocks of stage {stage}"),
        Knob(f"{prefix}channels", _SPACE_CHANNELS[stage - 1], "channels", f"output of stage {stage}"),
        Knob(f"{prefix}stride", (1, 2), "stride", f"step of the first block of stage {stage}"),
    )


@lru_cache(maxsize=1024)
def _parse(name: str) -> tuple[int, str, int]:
    """Stage, kind and block number (0 for a knob of the whole stage) of a stage knob."""
    match = _STAGE_KNOB.fullmatch(name)
    stage, kind, block = (int(match[1]), match[2], int(match[3] or 0)) if match else (0, "", 0)
    if not 1 <= stage <= MAX_STAGES or (kind == "block") != (block > 0) or block > MAX_DEPTH:
        raise unknown_knob(
            name, (*_GLOBAL_RULES, *(f"stage1_{k}" for k in _STAGE_RULES if k != "block"), "stage1_block1")
        )
    return stage, kind, block


@lru_cache(maxsize=MAX_STAGES)
def _stage_names(stage: int) -> tuple[tuple[str, str], ...]:
    """Kind and name of the knobs of a whole stage."""
    return tuple((kind, f"stage{stage}_{kind}") for kind in _STAGE_RULES if kind != "block")


@lru_cache(maxsize=MAX_STAGES)
def _block_names(stage: int) -> tuple[str, ...]:
    return tuple(f"stage{stage}_block{number}" for number in range(1, MAX_DEPTH + 1))


def _rule(name: str) -> Rule:
    return _GLOBAL_RULES[name] if name in _GLOBAL_RULES else _STAGE_RULES[_parse(name)[1]]


@lru_cache(maxsize=4096)
def _enforce(name: str, value: KnobValue) -> None:
    enforce(name, value, _rule(name))


def _whole(values: Mapping[str, KnobValue], name: str) -> int:
    if name not in values:
        raise missing_knob(name, str(_rule(name)))
    _enforce(name, values[name])
    return int(values[name])


def _blocks(values: Mapping[str, KnobValue], stage: int) -> list[str]:
    names = _block_names(stage)[: _whole(values, f"stage{stage}_depth")]
    for name in names:
        if name not in values:
            raise missing_knob(name, str(_rule(name)))
    return [str(values[name]) for name in names]


IBN_CLASSIFIER = IbnClassifier()
