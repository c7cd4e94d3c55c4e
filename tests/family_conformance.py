"""The exam of a model family. Subclass `FamilyConformance`, give the fixture `family`, and pytest runs every law.

class TestMyFamily(FamilyConformance):
    @pytest.fixture
    def family(self) -> Family:
        return MyFamily()
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lanefit.common.errors import ConfigError
from lanefit.export.onnx_export import to_onnx
from lanefit.models.architecture import Architecture
from lanefit.models.family import Family
from lanefit.models.layers import INPUT, LayerSpec

KNOB_KINDS = {
    "channels", "expansion", "kernel", "depth", "stride", "block", "multiplier", "resolution", "activation",
}  # fmt: skip
CHANNELS, CLASSES = 3, 5


def samples(family: Family, count: int, seed: int = 0) -> list[Architecture]:
    generator = np.random.default_rng(seed)
    return [family.sample(generator) for _ in range(count)]


def smallest(family: Family, count: int = 12) -> Architecture:
    """The sample that is cheapest to run, for laws that need only one network."""
    return min(samples(family, count), key=lambda a: sum(layer.macs for layer in layers(family, a)))


def layers(family: Family, architecture: Architecture) -> tuple[LayerSpec, ...]:
    return family.layers(architecture, input_channels=CHANNELS, classes=CLASSES)


def build(family: Family, architecture: Architecture, seed: int = 0) -> nn.Module:
    return family.build(architecture, input_channels=CHANNELS, classes=CLASSES, seed=seed)


def images(family: Family, architecture: Architecture, batch: int = 2) -> torch.Tensor:
    shape = family.input_shape(architecture, CHANNELS)
    return torch.randn((batch, *shape), generator=torch.Generator().manual_seed(1))


class FamilyConformance:
    """Laws of every family; none of them trains to convergence, so the whole exam takes seconds."""

    @pytest.fixture(autouse=True)
    def one_thread(self) -> Iterator[None]:
        before = torch.get_num_threads()
        torch.set_num_threads(1)  # networks this small only lose by a second thread
        yield
        torch.set_num_threads(before)

    def layer_modules(self, module: nn.Module) -> list[nn.Module]:
        """The submodules that compute the described layers, in order; override it for a module of your own."""
        return list(module.get_submodule("steps").children())

    def test_knobs_are_named_once_and_have_distinct_values_of_a_known_kind(self, family: Family) -> None:
        knobs = family.knobs()
        assert len({knob.name for knob in knobs}) == len(knobs) > 0
        for knob in knobs:
            assert knob.kind in KNOB_KINDS, knob
            assert len(set(knob.values)) == len(knob.values) > 0, knob
            assert knob.doc, knob

    def test_every_value_of_every_knob_is_valid(self, family: Family) -> None:
        base = {name: value for a in samples(family, 20) for name, value in a.knobs}
        base = {knob.name: base.get(knob.name, knob.values[0]) for knob in family.knobs()}
        for knob in family.knobs():
            for value in knob.values:
                family.check(Architecture.of(family.name, {**base, knob.name: value}))

    def test_samples_are_valid_canonical_and_survive_both_file_forms(self, family: Family) -> None:
        for architecture in samples(family, 20):
            family.check(architecture)
            assert family.canonicalise(architecture) == architecture
            assert {name for name, _ in architecture.knobs} == set(family.active_knobs(architecture))
            assert Architecture.from_json(architecture.to_json()) == architecture
            assert Architecture.from_toml(architecture.to_toml()).digest() == architecture.digest()

    def test_dead_knobs_change_neither_layers_nor_the_canonical_digest(self, family: Family) -> None:
        for architecture in samples(family, 20):
            filled = {knob.name: knob.values[-1] for knob in family.knobs()} | architecture.values
            noisy = Architecture.of(family.name, filled)
            once = family.canonicalise(noisy)
            assert once == family.canonicalise(once) == architecture
            assert layers(family, noisy) == layers(family, architecture)

    def test_an_unknown_knob_is_refused_by_name(self, family: Family) -> None:
        with pytest.raises(ConfigError, match="no_such_knob"):
            family.check(samples(family, 1)[0].with_values(no_such_knob=1))

    def test_a_missing_knob_is_refused_by_name(self, family: Family) -> None:
        architecture = samples(family, 1)[0]
        name = architecture.knobs[0][0]
        with pytest.raises(ConfigError, match=name):
            family.check(Architecture(family.name, architecture.knobs[1:]))

    def test_an_architecture_of_another_family_is_refused(self, family: Family) -> None:
        with pytest.raises(ConfigError, match="other-family"):
            family.check(Architecture("other-family", samples(family, 1)[0].knobs))

    def test_layers_are_wired_in_order_from_the_input_to_the_classes(self, family: Family) -> None:
        for architecture in samples(family, 20):
            described = layers(family, architecture)
            shapes = {INPUT: family.input_shape(architecture, CHANNELS)}
            for layer in described:
                assert tuple(shapes[name] for name in layer.inputs) == layer.input_shapes, layer
                shapes[layer.name] = layer.output_shape
            assert len(shapes) == len(described) + 1
            assert prod(described[-1].output_shape) == CLASSES

    def test_real_layer_shapes_and_weights_equal_the_description(self, family: Family) -> None:
        for architecture in samples(family, 3):
            module = build(family, architecture).eval()
            seen = _shapes_seen(module, self.layer_modules(module), images(family, architecture, batch=1))
            weights = sum(p.numel() for p in module.parameters() if p.ndim > 1)
            described = layers(family, architecture)
            assert weights == sum(layer.weights for layer in described)
            assert seen == [_kept(layer.output_shape) for layer in described]

    def test_the_same_architecture_and_seed_give_the_same_weights(self, family: Family) -> None:
        architecture = smallest(family)
        again = Architecture.from_json(architecture.to_json())
        first, second, other = build(family, architecture), build(family, again), build(family, architecture, seed=1)
        weights, same, different = (m.state_dict() for m in (first, second, other))
        assert all(torch.equal(weights[name], same[name]) for name in weights)
        assert any(not torch.equal(weights[name], different[name]) for name in weights)

    def test_building_leaves_the_global_random_state_alone(self, family: Family) -> None:
        before = torch.get_rng_state()
        build(family, smallest(family))
        assert torch.equal(before, torch.get_rng_state())

    def test_two_training_steps_move_weights_and_keep_the_loss_finite(self, family: Family) -> None:
        architecture = smallest(family)
        module = build(family, architecture).train()
        x, y = images(family, architecture, batch=8), torch.arange(8) % CLASSES
        before = {name: p.clone() for name, p in module.named_parameters()}
        optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
        losses: list[float] = []
        for _ in range(2):
            loss = F.cross_entropy(module(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert np.isfinite(losses).all()
        still = [name for name, p in module.named_parameters() if torch.equal(p, before[name])]
        assert len(still) < len(before) / 2, still  # a clamp may starve a few parameters of gradient, not most

    def test_the_network_exports_to_onnx(self, family: Family) -> None:
        architecture = smallest(family)
        shape = (1, *family.input_shape(architecture, CHANNELS))
        model = to_onnx(build(family, architecture), shape)
        assert [d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim] == [1, CLASSES]

    def test_the_module_knows_its_input_shape(self, family: Family) -> None:
        architecture = smallest(family)
        module = build(family, architecture)
        assert getattr(module, "input_shape", None) == family.input_shape(architecture, CHANNELS)


def _shapes_seen(module: nn.Module, watched: list[nn.Module], x: torch.Tensor) -> list[tuple[int, ...]]:
    seen: list[tuple[int, ...]] = []
    handles = [m.register_forward_hook(lambda _m, _i, out: seen.append(_kept(tuple(out.shape[1:])))) for m in watched]
    with torch.inference_mode():
        module(x)
    for handle in handles:
        handle.remove()
    return seen


def _kept(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without trailing ones: (10,) and (10, 1, 1) are the same vector."""
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    return shape
