from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lanefit.common.errors import UnknownNameError, UnsupportedError
from lanefit.nas.proxies import PROXIES, log_ranks, rank_scores, score_all, size_warnings
from lanefit.nas.proxies.conformance import ProxyConformance, minibatch, small_network
from lanefit.nas.proxies.linear_regions import naswot
from lanefit.nas.proxies.subject import Subject
from lanefit.nas.proxies.synflow import synflow


class TestComplexity(ProxyConformance):
    proxy = PROXIES.get("complexity")


class TestExpressivity(ProxyConformance):
    proxy = PROXIES.get("expressivity")


class TestFisher(ProxyConformance):
    proxy = PROXIES.get("fisher")


class TestGradNorm(ProxyConformance):
    proxy = PROXIES.get("grad-norm")


class TestGrasp(ProxyConformance):
    proxy = PROXIES.get("grasp")


class TestIsometry(ProxyConformance):
    proxy = PROXIES.get("isometry")


class TestJacobCov(ProxyConformance):
    proxy = PROXIES.get("jacob-cov")


class TestMacs(ProxyConformance):
    proxy = PROXIES.get("macs")


class TestMeco(ProxyConformance):
    proxy = PROXIES.get("meco")


class TestNaswot(ProxyConformance):
    proxy = PROXIES.get("naswot")


class TestParams(ProxyConformance):
    proxy = PROXIES.get("params")


class TestProgressivity(ProxyConformance):
    proxy = PROXIES.get("progressivity")


class TestSnip(ProxyConformance):
    proxy = PROXIES.get("snip")


class TestSwap(ProxyConformance):
    proxy = PROXIES.get("swap")


class TestSynflow(ProxyConformance):
    proxy = PROXIES.get("synflow")


class TestTrainability(ProxyConformance):
    proxy = PROXIES.get("trainability")


class TestZen(ProxyConformance):
    proxy = PROXIES.get("zen")


class TestZico(ProxyConformance):
    proxy = PROXIES.get("zico")


def test_every_builtin_proxy_is_examined() -> None:
    assert {cls.proxy.name for cls in ProxyConformance.__subclasses__()} >= set(PROXIES)


def _subject(module: nn.Module, inputs: Tensor | None = None) -> Subject:
    return Subject(module, minibatch() if inputs is None else inputs, macs=1)


def _raw_synflow(module: nn.Module) -> float:
    """The published formula in float64, for a network small enough not to overflow."""
    module = module.double().eval()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.forward = lambda x: x  # type: ignore[method-assign]
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            layer.weight.data.abs_()
            if layer.bias is not None:
                layer.bias.data.zero_()
        elif isinstance(layer, nn.ReLU6):
            layer.max_val = math.inf
    module(torch.ones(1, 3, 8, 8, dtype=torch.float64)).sum().backward()
    weights = [layer.weight for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    return math.log(sum(float((w.detach() * w.grad).sum()) for w in weights if w.grad is not None))


@pytest.mark.parametrize(("width", "depth"), [(4, 0), (8, 3), (24, 6)])
def test_synflow_equals_the_published_formula(width: int, depth: int) -> None:
    found = synflow.score(_subject(small_network(width, depth)))
    assert found == pytest.approx(_raw_synflow(small_network(width, depth)), rel=1e-5)


def test_synflow_rises_with_depth_and_width() -> None:
    by_depth = [synflow.score(_subject(small_network(8, depth))) for depth in (1, 2, 4, 8)]
    by_width = [synflow.score(_subject(small_network(width, 3))) for width in (4, 8, 16, 32)]
    assert all(a < b for scores in (by_depth, by_width) for a, b in pairwise(scores))


def test_synflow_of_a_thousand_layers_is_finite_and_additive() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 3, 1, bias=False)
    nn.init.constant_(layer.weight, 1e3)
    found = synflow.score(_subject(nn.Sequential(*[layer] * 1000)))
    # every layer multiplies by 3 × 1e3; each weight tensor carries all of the flow, and they are one tensor here
    assert found == pytest.approx(1000 * math.log(3e3) + math.log(3 * 64) + math.log(1000), rel=1e-6)


class Gated(nn.Module):
    """A map scaled by a function of its own means, plus a branch multiplied by zero."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate, self.dead = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        gate = torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))
        return x * gate + self.dead(x) * 0.0


def test_synflow_multiplies_the_flows_of_a_gate_and_ignores_what_zero_takes_away() -> None:
    torch.manual_seed(0)
    module = Gated()
    weights = [m.weight.detach().abs()[:, :, 0, 0].double() for m in (module.first, module.gate)]
    mapped = weights[0].sum(1)
    total = float((mapped * (weights[1] @ mapped)).sum()) * 16
    score = synflow.score(Subject(module, torch.ones(2, 3, 4, 4), macs=1, seed=0))
    assert score == pytest.approx(math.log(3 * total), rel=1e-5)  # degree 2 in `first`, 1 in `gate`


def test_synflow_refuses_an_operator_that_it_has_no_rule_for() -> None:
    with pytest.raises(UnsupportedError, match="no rule for tanh"):
        synflow.score(_subject(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh())))


def test_naswot_prefers_a_network_that_tells_samples_apart() -> None:
    different = naswot.score(_subject(small_network()))
    alike = minibatch()[:1].repeat(6, 1, 1, 1) + 1e-3 * minibatch()
    assert naswot.score(_subject(small_network(), alike)) < different


def test_naswot_sees_functional_clamps_and_the_upper_bound_of_relu6() -> None:
    class Scaled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.nn.functional.relu6(x * 40)

    codes = _subject(Scaled()).trace
    x = minibatch() * 40
    code = ((x > 0) & (x < 6)).flatten(1).double()
    expected = code @ code.T + (1 - code) @ (1 - code).T
    assert codes.units == 192
    assert np.array_equal(codes.agreement, expected.numpy())


def test_a_network_without_activations_is_degenerate_for_naswot() -> None:
    assert score_all(["naswot"], _subject(nn.Conv2d(3, 4, 3)))["naswot"] == -math.inf


def test_scores_of_a_dead_network_are_minus_infinity_and_rank_last() -> None:
    dead = small_network()
    with torch.no_grad():
        for parameter in dead.parameters():
            parameter.fill_(math.nan)
    names = ["naswot", "synflow", "jacob-cov"]
    scores = score_all(names, _subject(dead))
    assert set(scores.values()) == {-math.inf}
    cohort = [scores, *(score_all(names, _subject(small_network(8, 2, seed))) for seed in range(3)), scores]
    ranks = rank_scores(cohort)
    assert ranks[0] == ranks[-1] == min(ranks) < min(ranks[1:-1])


def test_an_unknown_proxy_is_refused_with_near_matches() -> None:
    with pytest.raises(UnknownNameError, match="unknown proxy 'synflo'") as caught:
        score_all(["synflo"], _subject(small_network()))
    assert "did you mean synflow" in caught.value.hint


finite = st.floats(-1e6, 1e6)


@given(st.lists(st.tuples(finite, finite), min_size=1, max_size=12))
@settings(max_examples=60)
def test_rank_scores_depend_on_order_only(pairs: list[tuple[float, float]]) -> None:
    cohort = [{"a": a, "b": b} for a, b in pairs]
    rescaled = [{"a": math.atan(a / 1e6) if a else 0.0, "b": 8 * b} for a, b in pairs]
    distinct = len({a for a, _ in pairs}) == len({member["a"] for member in rescaled})
    assert not distinct or rank_scores(cohort) == pytest.approx(rank_scores(rescaled))


@given(st.lists(st.tuples(finite, finite), min_size=2, max_size=12))
@settings(max_examples=60)
def test_who_is_better_in_every_proxy_is_better_in_rank(pairs: list[tuple[float, float]]) -> None:
    ranks = rank_scores([{"a": a, "b": b} for a, b in pairs])
    for i, mine in enumerate(pairs):
        for j, theirs in enumerate(pairs):
            if mine[0] > theirs[0] and mine[1] > theirs[1]:
                assert ranks[i] > ranks[j]


def test_log_ranks_share_ties_and_end_at_zero() -> None:
    assert log_ranks([1.0, 5.0, 5.0, math.nan]) == pytest.approx([math.log(x / 4) for x in (2, 3.5, 3.5, 1)])
    assert log_ranks([]) == []
    assert rank_scores([]) == []


def test_a_score_that_only_measures_size_is_pointed_out() -> None:
    macs = [10, 20, 30, 40, 50]
    cohort = [{"big": float(m), "free": float((m * 7) % 11), "constant": 1.0} for m in macs]
    warnings = size_warnings(cohort, macs)
    assert len(warnings) == 1
    assert warnings == ["big only measures size here: 100% of its order over 5 networks follows from it"]


def test_grasp_of_normalised_convolutions_is_their_squared_gradient_norm() -> None:
    torch.manual_seed(0)
    parts = [(nn.Conv2d(a, b, 3, bias=False), nn.BatchNorm2d(b, eps=1e-12)) for a, b in ((3, 6), (6, 4))]
    module = nn.Sequential(*parts[0], nn.ReLU(), *parts[1], nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()
    inputs, labels = minibatch().double(), torch.tensor([0, 1, 2, 3, 0, 1])
    loss = nn.functional.cross_entropy(module.train()(inputs), labels)
    weights = [parameter for parameter in module.parameters() if parameter.dim() > 1]
    squared = sum(float(gradient.square().sum()) for gradient in torch.autograd.grad(loss, weights))
    found = PROXIES.get("grasp").score(Subject(module, inputs, macs=1, labels=labels))
    assert found == pytest.approx(math.asinh(squared * 1e6), rel=1e-6)
