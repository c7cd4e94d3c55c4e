"""Mobile classifiers: plain layers from `lanefit.models`, so that they are what a search could find too."""

from __future__ import annotations

from torch import Tensor, nn

from lanefit.models.architecture import Architecture, KnobValue
from lanefit.models.baselines import mobilenet_v2
from lanefit.models.layers import LayerBuilder
from lanefit.models.network import LayerNetwork
from lanefit.models.registry import families

from .blocks import Classifier, conv_norm

IMAGE = (3, 224, 224)
# Howard et al. 2017 (arXiv:1704.04861), table 1: channels and stride of the 13 separable convolutions
_MOBILENET_V1 = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip
# Tan & Le 2019 (arXiv:1905.11946), table 1, without squeeze-and-excite and with ReLU6 as in the published "lite" form:
# expansion, channels, blocks, stride, kernel
_EFFICIENTNET_LITE0 = (
    (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3),
)  # fmt: skip
# After MobileNetEdgeTPU (2019): block, channels, blocks, stride, kernel; the first block expands by 8, the others by 4
_EDGE_STAGES = (
    ("fused", 32, 4, 2, 3), ("fused", 48, 4, 2, 3), ("ibn", 96, 4, 2, 3),
    ("ibn", 96, 4, 1, 3), ("ibn", 160, 4, 2, 5), ("ibn", 192, 1, 1, 3),
)  # fmt: skip
# One finalist of `make demo`, seed 2026: the winner of the run whose figures the README shows
_DIGITS_WINNER: dict[str, KnobValue] = {
    "activation": "relu", "depth_multiplier": 1, "resolution": 28,
    "stem_channels": 32, "stem_kernel": 3, "stem_stride": 1, "head_channels": 128, "stages": 5,
    "stage1_depth": 3, "stage1_channels": 16, "stage1_expansion": 4, "stage1_kernel": 3, "stage1_stride": 1,
    "stage1_block1": "conv", "stage1_block2": "ibn", "stage1_block3": "ibn",
    "stage2_depth": 3, "stage2_channels": 16, "stage2_expansion": 2, "stage2_kernel": 5, "stage2_stride": 2,
    "stage2_block1": "fused", "stage2_block2": "ibn", "stage2_block3": "conv",
    "stage3_depth": 2, "stage3_channels": 32, "stage3_kernel": 3, "stage3_stride": 2,
    "stage3_block1": "conv", "stage3_block2": "conv",
    "stage4_depth": 3, "stage4_channels": 80, "stage4_expansion": 2, "stage4_kernel": 3, "stage4_stride": 2,
    "stage4_block1": "ibn", "stage4_block2": "ibn", "stage4_block3": "fused",
    "stage5_depth": 1, "stage5_channels": 80, "stage5_expansion": 3, "stage5_kernel": 5, "stage5_stride": 2,
    "stage5_block1": "ibn",
}  # fmt: skip


def mobilenet_v1_224() -> nn.Module:
    """MobileNetV1-1.0-224, 569 MMAC."""
    net = LayerBuilder(IMAGE)
    net.conv("stem", 32, kernel=3, stride=2, activation="relu6")
    for number, (channels, stride) in enumerate(_MOBILENET_V1, start=1):
        net.depthwise(f"depthwise{number}", kernel=3, stride=stride, activation="relu6")
        net.conv(f"point{number}", channels, activation="relu6")
    net.classifier(1000)
    return LayerNetwork(net.layers())


def mobilenet_v2_224() -> nn.Module:
    """MobileNetV2-1.0-224, 301 MMAC."""
    return _of(mobilenet_v2(width=1.0, resolution=224), 3, 1000)


def efficientnet_lite0() -> nn.Module:
    """As EfficientNet-Lite0 at 224×224, 385 MMAC."""
    values: dict[str, KnobValue] = {
        "resolution": 224, "activation": "relu6", "depth_multiplier": 1,
        "stem_channels": 32, "stem_kernel": 3, "stem_stride": 2, "head_channels": 1280, "stages": 7,
    }  # fmt: skip
    for number, (expansion, channels, depth, stride, kernel) in enumerate(_EFFICIENTNET_LITE0, start=1):
        stage = {"expansion": expansion, "channels": channels, "depth": depth, "stride": stride, "kernel": kernel}
        values |= {f"stage{number}_{name}": value for name, value in stage.items()}
        values |= {f"stage{number}_block{i}": "ibn" for i in range(1, depth + 1)}
    return _of(Architecture.of("ibn-classifier", values), 3, 1000)


def mobilenet_edgetpu() -> nn.Module:
    """As MobileNetEdgeTPU at 224×224: fused blocks where maps are large, inverted bottlenecks after."""
    net = LayerBuilder(IMAGE)
    net.conv("stem", 32, kernel=3, stride=2, activation="relu")
    net.depthwise("stage0_depthwise", kernel=3, activation="relu")
    net.conv("stage0_project", 16)
    for number, (block, channels, depth, stride, kernel) in enumerate(_EDGE_STAGES, start=1):
        for index in range(depth):
            name, wide = f"stage{number}_block{index}", net.shape[0] * (4 if index else 8)
            _edge_block(net, name, block, wide, channels, 1 if index else stride, kernel)
            if index:
                net.add(f"{name}_add", f"stage{number}_block{index - 1}_{'add' if index > 1 else 'project'}")
    net.conv("head", 1280, activation="relu")
    net.classifier(1000)
    return LayerNetwork(net.layers())


def _edge_block(net: LayerBuilder, name: str, block: str, wide: int, channels: int, stride: int, kernel: int) -> None:
    if block == "fused":
        net.conv(f"{name}_fused", wide, kernel=kernel, stride=stride, activation="relu")
    else:
        net.conv(f"{name}_expand", wide, activation="relu")
        net.depthwise(f"{name}_depthwise", kernel=kernel, stride=stride, activation="relu")
    net.conv(f"{name}_project", channels)


class DsCnn(nn.Module):
    """Keyword spotting, 49 frames × 10 features (Zhang et al. 2017, arXiv:1711.07128, DS-CNN-S as in MLPerf Tiny)."""

    def __init__(self, width: int = 64, classes: int = 12) -> None:
        super().__init__()
        stem = nn.Sequential(nn.ZeroPad2d((1, 1, 4, 5)), nn.Conv2d(1, width, (10, 4), 2, bias=False))
        self.stem = nn.Sequential(stem, nn.BatchNorm2d(width), nn.ReLU())
        self.blocks = nn.Sequential(
            *(
                conv_norm(width, width, kernel, groups=groups, activation="relu")
                for _ in range(4)
                for kernel, groups in ((3, width), (1, 1))
            )
        )
        self.head = Classifier(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)))


def digits_winner() -> nn.Module:
    return _of(Architecture.of("ibn-classifier", _DIGITS_WINNER), 1, 10)


def digits_baseline() -> nn.Module:
    """What the demo starts from: MobileNetV2-0.5 on 32×32 grey images."""
    return _of(mobilenet_v2(width=0.5, resolution=32), 1, 10)


def _of(architecture: Architecture, channels: int, classes: int) -> nn.Module:
    return families.get(architecture.family).build(architecture, input_channels=channels, classes=classes, seed=0)
