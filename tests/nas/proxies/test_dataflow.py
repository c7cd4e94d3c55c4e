"""Where blocks end, on networks whose blocks are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lanefit.models.nas_bench_201 import NAS_BENCH_201, parse_architecture
from lanefit.nas.proxies.conformance import minibatch, small_network
from lanefit.nas.proxies.trace import trace_network


def _channels_of_blocks(module: nn.Module) -> list[int]:
    return [block.shape[1] for block in trace_network(module, minibatch(2), 0).blocks]


def test_blocks_of_a_residual_network_end_where_its_skips_meet() -> None:
    assert _channels_of_blocks(small_network(8, depth=3)) == [8, 8, 8, 8]


def test_blocks_of_a_plain_chain_end_before_the_next_convolution_and_before_pooling() -> None:
    layers = [
        part for a, b in ((3, 4), (4, 5), (5, 6)) for part in (nn.Conv2d(a, b, 3, padding=1), nn.ReLU(inplace=True))
    ]
    assert _channels_of_blocks(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())) == [4, 5, 6]


@pytest.mark.parametrize("cell", ["skip_connect", "nor_conv_3x3", "avg_pool_3x3", "none"])
def test_cells_of_nas_bench_201_are_blocks_whatever_they_hold(cell: str) -> None:
    architecture = parse_architecture(f"|{cell}~0|+|none~0|{cell}~1|+|none~0|none~1|{cell}~2|")
    module = NAS_BENCH_201.build(architecture, input_channels=3, classes=10)
    blocks = trace_network(module, minibatch(2, size=32), 0).blocks
    assert [block.shape[1] for block in blocks] == [16] * 6 + [32] * 6 + [64] * 7


def test_branches_that_bypass_a_map_keep_it_from_ending_a_block() -> None:
    class Bypassed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.aside = (nn.Conv2d(3, width, 1) for width in (4, 5, 5))

        def forward(self, x: Tensor) -> Tensor:
            return self.second(torch.relu(self.first(x)[:, :3])) + self.aside(x)

    module = Bypassed()
    module.second = nn.Conv2d(3, 5, 1)
    assert _channels_of_blocks(module) == [5]


def test_a_perceptron_has_no_maps_and_so_no_blocks() -> None:
    assert _channels_of_blocks(nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 4))) == []
