from __future__ import annotations

import pytest
import torch

from lanefit.common.errors import ModelError
from lanefit.models.layers import LayerBuilder, LayerKind, LayerSpec
from lanefit.models.network import ConvLayer, LayerNetwork, LinearLayer, silence_residuals


def residual_net(activation: str = "none") -> LayerNetwork:
    net = LayerBuilder((2, 6, 6))
    net.conv("stem", 4, kernel=3, activation="relu6")
    net.conv("branch", 4, kernel=3, activation=activation)
    net.add("sum", "stem")
    net.classifier(3)
    return LayerNetwork(net.layers(), seed=3)


def test_the_network_computes_what_its_layers_say() -> None:
    network = residual_net("relu").eval()
    x = torch.randn(2, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    branch, classifier = network.steps["branch"], network.steps["classifier"]
    assert isinstance(branch, ConvLayer)
    assert isinstance(classifier, LinearLayer)
    with torch.inference_mode():
        stem = network.steps["stem"](x * 100)
        summed = stem + torch.relu(branch.norm(branch.conv(stem)))
        assert torch.allclose(network(x * 100), classifier.linear(summed.mean((2, 3))), atol=1e-5)
    assert stem.max() == 6


def test_silenced_residual_branches_pass_their_input_through_and_still_learn() -> None:
    network = residual_net().train()
    silence_residuals(network)
    x = torch.randn(4, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    branch = network.steps["branch"]
    assert isinstance(branch, ConvLayer)
    assert not branch(network.steps["stem"](x)).any()
    network(x).sum().backward()
    assert branch.norm.weight.grad is not None
    assert branch.norm.weight.grad.any()


def test_a_branch_that_ends_in_relu_is_not_silenced() -> None:
    network = residual_net("relu")
    silence_residuals(network)
    branch = network.steps["branch"]
    assert isinstance(branch, ConvLayer)
    assert branch.norm.weight.all()


def test_every_parameter_is_initialised() -> None:
    for name, parameter in residual_net().named_parameters():
        assert torch.isfinite(parameter).all(), name
        assert parameter.abs().max() < 10, name


@pytest.mark.parametrize(
    ("inputs", "shape", "what"),
    [
        (("nowhere",), (4, 6, 6), "not there yet"),
        (("stem",), (5, 6, 6), r"which is \(4, 6, 6\)"),
    ],
)
def test_wrong_wiring_is_refused_by_the_layer_name(
    inputs: tuple[str, ...], shape: tuple[int, int, int], what: str
) -> None:
    layers = [
        LayerSpec("stem", LayerKind.CONV, ("input",), (2, 6, 6), (4, 6, 6), 3, 1, 1),
        LayerSpec("next", LayerKind.CONV, inputs, shape, (4, 6, 6)),
    ]
    with pytest.raises(ModelError, match=what) as caught:
        LayerNetwork(layers)
    assert caught.value.where == "layer 'next'"


def test_a_repeated_name_and_an_empty_network_are_refused() -> None:
    layer = LayerSpec("stem", LayerKind.CONV, ("input",), (2, 6, 6), (2, 6, 6))
    with pytest.raises(ModelError, match="two layers have this name"):
        LayerNetwork([layer, layer])
    with pytest.raises(ModelError, match="at least one layer"):
        LayerNetwork([])


def test_the_plain_initialisation_keeps_signals_in_scale() -> None:
    network = residual_net()
    x = torch.randn(64, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        spread = network.train()(x).std()
    assert 0.05 < spread < 5
