from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from lanefit.common.errors import ModelError, UnsupportedError
from lanefit.estimator.opgraph.operator import Kind
from lanefit.models.layers import LayerBuilder, LayerKind, LayerSpec
from lanefit.models.registry import families
from lanefit.nas.operator_bridge import architecture_graph, blocks_to_operator_graph, to_operator_graph


@pytest.mark.parametrize("name", families.names())
def test_blocks_and_layers_give_one_graph_with_the_work_of_the_layers(name: str) -> None:
    family, generator = families.get(name), np.random.default_rng(3)
    for _ in range(20):
        architecture = family.sample(generator)
        layers = family.layers(architecture, input_channels=3, classes=10)
        graph = architecture_graph(architecture)
        assert graph.nodes == to_operator_graph(layers).nodes
        assert graph.macs == sum(layer.macs for layer in layers)
        assert graph.outputs == (layers[-1].name,)


@pytest.mark.parametrize("name", ["mnasnet", "nas-bench-201"])
def test_networks_of_one_family_share_their_blocks(name: str) -> None:
    family = families.get(name)
    first, second = (family.blocks(family.middle(), input_channels=3, classes=10) for _ in range(2))
    assert all(mine is theirs for mine, theirs in zip(first, second, strict=True))


def test_every_kind_of_layer_becomes_its_operators() -> None:
    net = LayerBuilder((8, 8, 8))
    net.activation("before", "relu")
    net.conv("conv", 8, kernel=3, activation="relu6")
    net.depthwise("spread", kernel=5)
    net.squeeze_excite("gate", 2)
    net.zero("nothing")
    net.add("sum", "gate_scale")
    net.average_pool("mean", kernel=2, stride=2)
    net.batch_norm("norm", activation="relu")
    net.classifier(7)
    graph = to_operator_graph(net.layers(), dtype="int8")
    assert [node.operator.kind for node in graph.nodes] == [
        Kind.RELU, Kind.CONV, Kind.CLIP, Kind.DEPTHWISE, Kind.GLOBAL_POOL, Kind.CONV, Kind.RELU, Kind.CONV,
        Kind.SIGMOID, Kind.MUL, Kind.ZERO, Kind.ADD, Kind.AVERAGE_POOL, Kind.BATCH_NORM, Kind.RELU, Kind.GLOBAL_POOL,
        Kind.RESHAPE, Kind.LINEAR,
    ]  # fmt: skip
    assert {operator.dtype for operator in graph.operators} == {"int8"}
    assert graph.by_name["gate_scale"].inputs == ("spread", "gate_expand")
    assert graph.by_name["spread"].operator.window.groups == 8  # type: ignore[union-attr]


def test_a_layer_without_an_operator_is_refused_by_its_name() -> None:
    @dataclass(frozen=True)
    class Strange:
        name, kind, inputs, activation, affine = "attend", "attention", ("input",), "none", "none"
        input_shape = output_shape = (4, 2, 2)
        input_shapes = ((4, 2, 2),)
        kernel = stride = 1
        padding = 0

    with pytest.raises(UnsupportedError, match="'attention'") as caught:
        to_operator_graph([Strange()])  # type: ignore[list-item]
    assert caught.value.where == "attend"


def test_networks_without_layers_or_with_loose_ends_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="without layers"):
        to_operator_graph([])
    with pytest.raises(UnsupportedError, match="without layers"):
        blocks_to_operator_graph([])
    with pytest.raises(ModelError, match="not there yet"):
        to_operator_graph([LayerSpec("lost", LayerKind.CONV, ("nowhere",), (3, 4, 4), (8, 4, 4))])
