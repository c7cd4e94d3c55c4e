from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from lanefit.common.errors import ModelError, UnsupportedError
from lanefit.export.blank import with_zero_weights
from lanefit.export.compiler import compile_graph
from lanefit.export.importer import import_model
from lanefit.export.onnx_export import to_onnx
from lanefit.export.precision import Precision, with_precision
from lanefit.export.quantise import quantise, random_calibration
from lanefit.kernels.ops import Add, Conv2d, Pool2d, Window
from lanefit.models.layers import LayerBuilder, LayerKind, LayerSpec
from lanefit.models.network import LayerNetwork
from lanefit.models.registry import families
from lanefit.nas.bridge import to_graph
from lanefit.nas.curation import runnable
from lanefit.nas.measure import engine_measure
from lanefit.nas.space import Space
from lanefit.targets.spec import load_spec

FAMILY = families.get("ibn-classifier")
SMALL = {"resolution": [16], "stem_channels": [8], "stages": [2], "stage1_depth": [2], "stage2_depth": [2]}


def test_the_graph_equals_what_importing_the_exported_network_gives() -> None:
    blocks = {
        "stage1_block1": ["fused"],
        "stage1_block2": ["ibn"],
        "stage2_block1": ["conv"],
        "stage2_block2": ["fused"],
    }
    architecture = Space.of(FAMILY).restrict({**SMALL, **blocks, "stage1_expansion": [2]}).sample(3)
    check_against_import(FAMILY.layers(architecture, input_channels=1, classes=10))


def test_gates_pools_lone_activations_and_normalisations_are_imported_alike() -> None:
    net = LayerBuilder((8, 12, 12))
    net.conv("stem", 8, kernel=3, activation="relu")
    net.conv("wide", 8, kernel=3)
    net.activation("before", "relu")
    net.squeeze_excite("gate", 2)
    net.zero("nothing")
    net.add("sum", "stem")
    net.average_pool("halved", kernel=2, stride=2)
    net.batch_norm("norm", activation="relu")
    net.conv("bare", 16, affine="none")
    net.activation("bent", "relu6")
    net.rewind("bare")
    net.conv("more", 16)
    net.sum("twice", ("bent", "more"))
    net.classifier(7)
    check_against_import(net.layers())


def check_against_import(layers: Sequence[LayerSpec]) -> None:
    """The graph of `layers` is that of the exported, quantised and imported network: operators, wiring, border."""
    graph, shape = to_graph(layers), (1, *layers[0].input_shape)
    module = LayerNetwork(layers).eval()
    (region,) = import_model(quantise(to_onnx(module, shape), random_calibration(shape))).regions
    assert [node.op for node in graph.nodes] == [node.op for node in region.graph.nodes]
    renamed = {mine.output: theirs.output for mine, theirs in zip(graph.nodes, region.graph.nodes, strict=True)}
    renamed["input"] = region.graph.inputs[0]
    wiring = [tuple(renamed[name] for name in node.inputs) for node in graph.nodes]
    assert wiring == [node.inputs for node in region.graph.nodes]
    for mine, theirs in ((graph.inputs[0], region.graph.inputs[0]), (graph.outputs[0], region.graph.outputs[0])):
        assert graph.tensors[mine].host_shape[-2:] == region.graph.tensors[theirs].host_shape[-2:]


def test_an_average_that_leaves_padding_out_is_refused_by_its_name() -> None:
    net = LayerBuilder((8, 6, 6))
    net.average_pool("mean", kernel=3, padding=1)
    with pytest.raises(UnsupportedError, match="whole windows only") as caught:
        to_graph(net.layers())
    assert caught.value.where == "mean"


def test_every_kind_of_layer_becomes_its_operator() -> None:
    net = LayerBuilder((3, 8, 6))
    net.conv("stem", 4, kernel=3, stride=2, activation="relu6")
    net.depthwise("spread", kernel=5)
    net.add("sum", "stem")
    net.classifier(7)
    graph = to_graph(net.layers())
    assert [node.op for node in graph.nodes] == [
        Conv2d((8, 6, 3), (4, 3, 4), Window(3, 3, 2, 2, 1, 1)),
        Conv2d((4, 3, 4), (4, 3, 4), Window(5, 5, 1, 1, 2, 2), depthwise=True),
        Add((4, 3, 4)),
        Pool2d((4, 3, 4), (1, 1, 4), Window(4, 3), maximum=False),
        Conv2d((1, 1, 4), (1, 1, 7), Window(1, 1)),
    ]
    assert graph.nodes[2].inputs == ("spread", "stem")
    assert graph.tensors["input"].host_shape == (3, 8, 6)
    assert graph.tensors["classifier"].host_shape == (7,)
    assert not graph.constants


def test_multiply_accumulates_are_those_of_the_layers() -> None:
    for seed in range(10):
        layers = FAMILY.layers(Space.of(FAMILY).sample(seed), input_channels=3, classes=10)
        assert to_graph(layers).macs == sum(layer.macs for layer in layers)


def test_an_unknown_kind_of_layer_is_refused_with_the_known_ones() -> None:
    @dataclass(frozen=True)
    class Strange:
        name = "attend"
        kind = "attention"
        inputs = ("input",)
        input_shape = output_shape = (4, 2, 2)

    with pytest.raises(UnsupportedError, match="no operator for a layer of kind 'attention'") as caught:
        to_graph([Strange()])  # type: ignore[list-item]
    assert caught.value.where == "attend"


def test_a_layer_that_reads_nothing_known_is_refused() -> None:
    lost = LayerSpec("lost", LayerKind.CONV, ("nowhere",), (3, 4, 4), (8, 4, 4))
    with pytest.raises(ModelError, match="used before it is produced"):
        to_graph([lost])
    with pytest.raises(UnsupportedError, match="without layers"):
        to_graph([])


def test_measuring_compiles_and_times_the_graph() -> None:
    architecture = Space.of(FAMILY).restrict(SMALL).sample(1)
    graph = to_graph(FAMILY.layers(architecture, input_channels=1, classes=10))
    small, large = (engine_measure(load_spec(target))(graph) for target in ("ne-64", "ne-1024"))
    assert small.latency_us == small.latency_upper_us > large.latency_us > 0
    assert small.macs == graph.macs
    assert min(small.sram_bytes, small.weight_bytes, small.dram_bytes) > 0


@pytest.mark.parametrize("name", ["nas-bench-201", "mnasnet"])
@pytest.mark.parametrize("precision", ["int8", "int8x16", "bf16"])
def test_random_networks_of_the_reference_families_compile_for_the_engine(name: str, precision: str) -> None:
    architecture = runnable(Space.of(families.get(name))).sample(2)
    if name == "mnasnet":
        architecture = architecture.with_values(resolution=32, block1_se=1, block4_l=1)
    graph = to_graph(families.get(name).layers(architecture, input_channels=3, classes=10))
    compiled = compile_graph(with_zero_weights(with_precision(graph, Precision(precision))), load_spec("ne-256"))
    assert compiled.latency_us > 0
