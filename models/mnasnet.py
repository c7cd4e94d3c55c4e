"""Family `mnasnet`: seven stages of inverted bottlenecks with optional squeeze-and-excitation.

Tan et al., "MnasNet", CVPR 2019 (arXiv:1807.11626), section 4, with the fixed widths of the Accel-NASBench tables:
stem 3×3 stride 2 to 32 channels; stage i repeats `block{i}_l` times a 1×1 expansion by `block{i}_e` (left out at
1), a depthwise k×k convolution, squeeze-and-excitation with a quarter of the block's input channels if `block{i}_se`
is 1, and a 1×1 projection; 1×1 head to 1280 channels, global pooling, linear layer. A knob is called like the
table's column.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from ..common.errors import ConfigError
from .architecture import Architecture, Knob, KnobValue
from .family import Family, missing_knob, unknown_knob
from .layers import INPUT, BlockForm, LayerBlock, LayerBuilder, LayerSpec, MapShape
from .rules import OneOf, Rule, Whole, enforce

FAMILY_NAME = "mnasnet"
STEM_CHANNELS, HEAD_CHANNELS = 32, 1280
WIDTHS = (16, 24, 40, 80, 112, 192, 320)
STRIDES = (1, 2, 2, 2, 1, 2, 1)
TABLE_RESOLUTION = 224
"""Height and width of the inputs of the published measurements."""
ACTIVATION = "relu"

_RULES: dict[str, Rule] = {"e": Whole(1, 16), "k": OneOf((1, 3, 5, 7)), "l": Whole(1, 8), "se": OneOf((0, 1))}
_SPACE: dict[str, tuple[str, tuple[int, ...], str]] = {
    "e": ("expansion", (1, 4, 6), "inner channels per input channel of stage"),
    "k": ("kernel", (3, 5), "window of the depthwise convolutions of stage"),
    "l": ("depth", (1, 2, 3), "blocks in stage"),
    "se": ("block", (0, 1), "squeeze-and-excitation in the blocks of stage"),
}
_RESOLUTION = Whole(32, 1024)
_BOOLEANS = {"true": 1, "false": 0}
_WHOLE = re.compile(r"(\d{1,4})(\.0*)?")  # spreadsheets write 6 as 6.0

COLUMNS = tuple(f"block{stage}_{part}" for stage in range(len(WIDTHS)) for part in _SPACE)
"""The columns that say in the tables what a network is."""


class MnasNet(Family):
    name = FAMILY_NAME
    summary = "image classifier of inverted bottlenecks with squeeze-and-excitation, measured on many accelerators"

    def knobs(self) -> tuple[Knob, ...]:
        resolution = Knob("resolution", (128, 160, 192, 224), "resolution", "height and width of the input")
        return (resolution, *(_knob(column) for column in COLUMNS))

    def is_active(self, name: str, values: Mapping[str, KnobValue]) -> bool:
        return True

    def active_knobs(self, architecture: Architecture) -> tuple[str, ...]:
        return ("resolution", *COLUMNS)

    def check(self, architecture: Architecture) -> None:
        values = self.own(architecture)
        known = self.active_knobs(architecture)
        for name in values:
            if name not in known:
                raise unknown_knob(name, known)
        for name in known:
            if name not in values:
                raise missing_knob(name, str(_rule(name)))
            enforce(name, values[name], _rule(name))

    def input_shape(self, architecture: Architecture, channels: int) -> MapShape:
        self.check(architecture)
        resolution = int(architecture.values["resolution"])
        return channels, resolution, resolution

    def layers(self, architecture: Architecture, *, input_channels: int, classes: int) -> tuple[LayerSpec, ...]:
        blocks = self.blocks(architecture, input_channels=input_channels, classes=classes)
        return tuple(layer for block in blocks for layer in block.layers)

    def blocks(self, architecture: Architecture, *, input_channels: int, classes: int) -> tuple[LayerBlock, ...]:
        """One block for every inverted bottleneck, one for the stem and one for the head."""
        found = [_stem(self.input_shape(architecture, input_channels))]
        values = {name: int(value) for name, value in architecture.knobs}
        for stage in range(len(WIDTHS)):
            parts = tuple(values[f"block{stage}_{part}"] for part in ("e", "k", "se"))
            for repeat in range(values[f"block{stage}_l"]):
                before, name = found[-1], f"block{stage}_{repeat}"
                form = _bottleneck(stage, before.shape, STRIDES[stage] if repeat == 0 else 1, parts)
                found.append(_placed(form, name, before.last))
        return (*found, _placed(_head(found[-1].shape, classes), "", found[-1].last))


def parse_columns(row: Mapping[str, str], *, resolution: int = TABLE_RESOLUTION) -> Architecture:
    """The architecture of one row of a table with the columns `COLUMNS`; other columns are left alone.

    Raises:
        ConfigError: a column that is absent or no value of its knob, naming it.
    """
    values: dict[str, KnobValue] = {column: _cell(row, column) for column in COLUMNS}
    architecture = Architecture.of(FAMILY_NAME, values, resolution=resolution)
    MNASNET.check(architecture)
    return architecture


def format_columns(architecture: Architecture) -> dict[str, str]:
    """The columns of an architecture as the published tables write them."""
    MNASNET.check(architecture)
    values = architecture.values
    return {column: str(bool(values[column])) if column.endswith("_se") else str(values[column]) for column in COLUMNS}


def _cell(row: Mapping[str, str], column: str) -> int:
    text = row.get(column)
    if text is None:
        raise ConfigError(f"column {column} is missing", where=column, hint=f"needed: {', '.join(COLUMNS)}")
    word = text.strip().lower()
    if column.endswith("_se") and word in _BOOLEANS:
        return _BOOLEANS[word]
    match = _WHOLE.fullmatch(word)
    if match is None:
        raise ConfigError(f"column {column} cannot be {text!r}", where=column, hint=f"allowed: {_rule(column)}")
    return int(match[1])


@lru_cache
def _stem(shape: MapShape) -> LayerBlock:
    net = LayerBuilder(shape)
    net.conv("stem", STEM_CHANNELS, kernel=3, stride=2, activation=ACTIVATION)
    return net.block()


@lru_cache(maxsize=16384)
def _placed(form: BlockForm, name: str, before: str) -> LayerBlock:
    return LayerBlock(form, name, before)


@lru_cache(maxsize=16384)
def _bottleneck(stage: int, shape: MapShape, stride: int, parts: tuple[int, ...]) -> BlockForm:
    """A block of a stage on a map of `shape`; `parts` are its e, k and se."""
    (expansion, kernel, gated), net = parts, LayerBuilder(shape)
    if expansion != 1:
        net.conv("_expand", shape[0] * expansion, activation=ACTIVATION)
    net.depthwise("_depthwise", kernel=kernel, stride=stride, activation=ACTIVATION)
    if gated:
        net.squeeze_excite("_se", shape[0] // 4)
    net.conv("_project", WIDTHS[stage])
    if net.shape == shape and stride == 1:
        net.add("_add", INPUT)
    return net.form()


@lru_cache
def _head(shape: MapShape, classes: int) -> BlockForm:
    net = LayerBuilder(shape)
    net.conv("head", HEAD_CHANNELS, activation=ACTIVATION)
    net.classifier(classes)
    return net.form()


def _knob(column: str) -> Knob:
    stage, part = column.removeprefix("block").split("_")
    kind, values, doc = _SPACE[part]
    return Knob(column, values, kind, f"{doc} {stage}")


def _rule(name: str) -> Rule:
    return _RESOLUTION if name == "resolution" else _RULES[name.split("_")[1]]


MNASNET = MnasNet()
