"""The exam that every proxy passes; a plug-in's test suite subclasses it.

    class TestMine(ProxyConformance):
        proxy = MyProxy()

Needs pytest.
"""

from __future__ import annotations

import copy
import math
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from ...models.registry import families
from .base import Direction, Proxy
from .subject import Subject

FAMILY_SIZE = 32  # extent of the images that networks of the families are examined with: enough for 16 positions


def small_network(width: int = 8, depth: int = 2, seed: int = 0) -> nn.Module:
    """A residual network with batch normalisation, ReLU and ReLU6 for 3×8×8 inputs; the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _Residual(width, depth).eval()


def minibatch(count: int = 6, seed: int = 0, size: int = 8) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


class _Residual(nn.Module):
    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU6())
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
            for _ in range(depth)
        )
        self.head = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x.mean((2, 3)))


class ProxyConformance:
    """What a zero-shot score must satisfy. `tolerance`: relative difference between single and double precision."""

    proxy: ClassVar[Proxy]
    tolerance: ClassVar[float] = 1e-3

    def subject(self, width: int = 8, depth: int = 2, seed: int = 0) -> Subject:
        module = small_network(width, depth, seed)
        macs = 64 * 9 * width * (3 + depth * width)
        return Subject(module, minibatch(), macs=macs, seed=seed)

    def test_it_says_what_it_is_and_where_it_comes_from(self) -> None:
        assert self.proxy.name
        assert self.proxy.summary
        assert self.proxy.source
        assert self.proxy.direction in Direction

    def test_the_score_of_a_sound_network_is_finite(self) -> None:
        assert math.isfinite(self.proxy.score(self.subject()))

    def test_equal_networks_have_equal_scores(self) -> None:
        assert self.proxy.score(self.subject(seed=3)) == self.proxy.score(self.subject(seed=3))

    def test_scoring_leaves_the_network_as_it_was(self) -> None:
        subject = self.subject()
        subject.module.get_parameter("head.bias").requires_grad_(False)
        subject.module.get_submodule("stem").train()
        before = copy.deepcopy(subject.module)
        self.proxy.score(subject)
        after = subject.module.state_dict()
        assert all(torch.equal(value, after[name]) for name, value in before.state_dict().items())
        assert [m.training for m in subject.module.modules()] == [m.training for m in before.modules()]
        assert [p.requires_grad for p in subject.module.parameters()] == [p.requires_grad for p in before.parameters()]
        assert all(parameter.grad is None for parameter in subject.module.parameters())

    def test_scoring_leaves_the_global_random_state_alone(self) -> None:
        subject = self.subject()
        before = torch.get_rng_state()
        self.proxy.score(subject)
        assert torch.equal(before, torch.get_rng_state())

    def test_the_score_depends_neither_on_what_was_scored_before_nor_on_gradients_being_on(self) -> None:
        alone = self.proxy.score(self.subject())
        self.proxy.score(self.subject(width=12, depth=4))
        with torch.no_grad():
            assert self.proxy.score(self.subject()) == alone

    def test_moving_statistics_and_the_mode_of_the_module_do_not_matter(self) -> None:
        expected = self.proxy.score(self.subject())
        subject = self.subject()
        for part in subject.module.modules():
            if isinstance(part, nn.BatchNorm2d) and part.running_var is not None and part.running_mean is not None:
                part.running_var.fill_(123.0)
                part.running_mean.fill_(-7.0)
        subject.module.train()
        assert self.proxy.score(subject) == expected

    def test_single_and_double_precision_agree(self) -> None:
        single = self.subject()
        double = Subject(small_network().double(), minibatch().double(), macs=single.macs)
        assert self.proxy.score(double) == pytest.approx(self.proxy.score(single), rel=self.tolerance, abs=1e-3)

    def test_wider_networks_of_a_chain_keep_finite_scores(self) -> None:
        assert all(math.isfinite(self.proxy.score(self.subject(width, 3))) for width in (4, 16, 64))

    def test_a_degenerate_network_gets_a_number_not_an_exception(self) -> None:
        for poison in (math.nan, 0.0, math.inf):
            subject = self.subject()
            with torch.no_grad():
                for parameter in subject.module.parameters():
                    parameter.fill_(poison)
            assert isinstance(self.proxy.score(subject), float)

    @pytest.mark.parametrize("name", sorted(families))
    def test_a_network_of_every_family_has_a_finite_score(self, name: str) -> None:
        family = families.get(name)
        module = family.build(family.middle(), input_channels=3, classes=4)
        subject = Subject(module, minibatch(2, size=FAMILY_SIZE), macs=1)
        assert math.isfinite(self.proxy.score(subject))

    def test_a_gpu_gives_the_same_score(self) -> None:
        if not torch.cuda.is_available():
            pytest.skip("there is no CUDA GPU that torch can use")
        expected = self.proxy.score(self.subject())
        module, host = small_network(), self.subject()
        found = self.proxy.score(Subject(module, minibatch(), macs=host.macs, device="cuda"))
        assert found == pytest.approx(expected, rel=10 * self.tolerance, abs=1e-2)
