"""Every rule by name: for ONNX models, and for architectures of a family."""

from __future__ import annotations

from ...common.registry import Registry
from .blocks import DepthwiseToConvolution, FuseInvertedBottleneck, ShortenStages, SmallerKernels
from .draft import Draft
from .knobs import (
    ArchitectureDraft,
    KnobRule,
    SwapStrides,
    aligned_down,
    aligned_up,
    block_of,
    half_of_head,
    lower_size,
    next_lower_late,
    off,
    one_less,
    relu,
    three,
)
from .maps import DropSqueezeExcite, LowerResolution, RaiseStrideEarly, ReplaceActivations
from .rule import Effect, Rule
from .widths import AlignChannels, FillLanes, NarrowExpansion, ShrinkHead

_FUSE, _DENSE, _KERNELS, _SHORTEN = (
    FuseInvertedBottleneck(),
    DepthwiseToConvolution(),
    SmallerKernels(),
    ShortenStages(),
)
_ALIGN, _FILL, _NARROW, _HEAD = AlignChannels(), FillLanes(), NarrowExpansion(), ShrinkHead()
_STRIDE, _SIZE, _RELU, _GATES = RaiseStrideEarly(), LowerResolution(), ReplaceActivations(), DropSqueezeExcite()

MODEL_RULES: Registry[Rule[Draft]] = Registry(
    "advice-rule",
    {
        rule.name: rule
        for rule in (
            _FUSE, _DENSE, _KERNELS, _SHORTEN, _ALIGN, _FILL, _NARROW, _HEAD, _STRIDE, _SIZE, _RELU, _GATES,
        )
    },
)  # fmt: skip
ARCHITECTURE_RULES: Registry[Rule[ArchitectureDraft]] = Registry(
    "advice-knob-rule",
    {
        rule.name: rule
        for rule in (
            KnobRule(_FUSE.name, _FUSE.reason, Effect.RETRAIN, "block", block_of("fused")),
            KnobRule(_DENSE.name, _DENSE.reason, Effect.SMALLER, "block", block_of("conv")),
            KnobRule(_KERNELS.name, _KERNELS.reason, _KERNELS.effect, "kernel", three),
            KnobRule(_SHORTEN.name, _SHORTEN.reason, _SHORTEN.effect, "depth", one_less),
            KnobRule(_ALIGN.name, _ALIGN.reason, _ALIGN.effect, "channels", aligned_down),
            KnobRule(_FILL.name, _FILL.reason, Effect.RETRAIN, "channels", aligned_up),
            KnobRule(_NARROW.name, _NARROW.reason, _NARROW.effect, "expansion", next_lower_late),
            KnobRule(_HEAD.name, _HEAD.reason, _HEAD.effect, "channels", half_of_head),
            SwapStrides(_STRIDE.name, _STRIDE.reason),
            KnobRule(_SIZE.name, _SIZE.reason, _SIZE.effect, "resolution", lower_size),
            KnobRule(_RELU.name, _RELU.reason, _RELU.effect, "activation", relu),
            KnobRule(_GATES.name, _GATES.reason, _GATES.effect, "block", off),
        )
    },
)
