"""Rules on ONNX models: what they change, and what they leave."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from advice_networks import bottlenecks, gated, outputs, plain_chain
from onnx import ModelProto, TensorProto, numpy_helper

from lanefit.common.errors import ModelError
from lanefit.export.onnx_model import GraphIndex, copy_of
from lanefit.export.quantise import quantise, random_calibration
from lanefit.nas.advice.channels import channel_groups, set_width
from lanefit.nas.advice.draft import Draft, multiply_accumulates
from lanefit.nas.advice.rule import Effect, Lanes
from lanefit.nas.advice.rules import ARCHITECTURE_RULES, MODEL_RULES
from lanefit.nas.advice.subjects import ModelSubject

LANES = Lanes(16, 16)
NETWORKS: dict[str, Callable[[], ModelProto]] = {
    "bottlenecks": bottlenecks,
    "wide kernels": lambda: bottlenecks(channels=20, kernel=5),
    "chain": plain_chain,
    "gated": gated,
}


def changed(model: ModelProto, name: str, lanes: Lanes = LANES) -> ModelProto:
    subject = ModelSubject(model)
    rule = MODEL_RULES.get(name)
    sites = subject.sites(rule, lanes)
    assert sites, f"{name} finds nothing to do"
    return subject.applied(rule, sites).model


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", MODEL_RULES.names())
class TestEveryRule:
    """The exam of a rule on ONNX models."""

    def test_each_site_alone_and_all_together_give_a_network_of_the_same_outputs(self, name: str, network: str) -> None:
        subject = ModelSubject(NETWORKS[network]())
        rule = MODEL_RULES.get(name)
        sites = subject.sites(rule, LANES)
        for chosen in [*([site] for site in sites), sites] if sites else []:
            found = outputs(subject.applied(rule, chosen).model)
            assert np.isfinite(found).all()
            if name != "lower-resolution" or network != "gated":  # a map in, a map out
                assert found.shape == outputs(subject.model).shape

    def test_sites_name_operators_of_the_model(self, name: str, network: str) -> None:
        subject = ModelSubject(NETWORKS[network]())
        known = {node.name for node in subject.model.graph.node}
        for site in subject.sites(MODEL_RULES.get(name), LANES):
            assert site.before
            assert set(site.before) <= known

    def test_a_rule_leaves_the_model_that_it_is_given(self, name: str, network: str) -> None:
        subject = ModelSubject(NETWORKS[network]())
        rule, before = MODEL_RULES.get(name), subject.model.SerializeToString(deterministic=True)
        sites = subject.sites(rule, LANES)
        if sites:
            subject.applied(rule, sites)
        assert subject.model.SerializeToString(deterministic=True) == before

    def test_what_keeps_the_function_gives_the_same_outputs(self, name: str, network: str) -> None:
        subject = ModelSubject(NETWORKS[network]())
        rule = MODEL_RULES.get(name)
        sites = subject.sites(rule, LANES)
        if rule.effect is Effect.SAME and sites:
            found = outputs(subject.applied(rule, sites).model)
            np.testing.assert_allclose(found, outputs(subject.model), rtol=1e-4, atol=1e-4)

    def test_what_takes_capacity_away_takes_products_away(self, name: str, network: str) -> None:
        subject = ModelSubject(NETWORKS[network]())
        rule = MODEL_RULES.get(name)
        sites = subject.sites(rule, LANES)
        if rule.effect is Effect.SMALLER and sites:
            assert multiply_accumulates(subject.applied(rule, sites).model) < multiply_accumulates(subject.model)


def test_both_kinds_of_subjects_have_the_same_rules() -> None:
    assert MODEL_RULES.names() == ARCHITECTURE_RULES.names()


def test_fusing_leaves_no_depthwise_convolution_behind_an_expansion() -> None:
    model = changed(bottlenecks(), "fuse-inverted-bottleneck")
    grouped = [node.name for node in model.graph.node if Draft(model).conv(node) and _groups(node) > 1]
    assert len(grouped) == 1  # the first block has no expansion
    assert "first_depthwise" in grouped[0]


def test_a_fused_block_without_an_activation_between_computes_the_same() -> None:
    model = copy_of(bottlenecks(blocks=1))
    for tensor in model.graph.initializer:
        if (
            len(tensor.dims) == 1 and tensor.data_type == TensorProto.FLOAT
        ):  # a bias: of an expansion it would be missing where the map is padded
            tensor.CopyFrom(numpy_helper.from_array(np.zeros(tensor.dims, np.float32), tensor.name))
    for node in list(model.graph.node):
        if node.op_type == "Clip":  # nothing is clamped any more
            for reader in model.graph.node:
                reader.input[:] = [node.input[0] if name == node.output[0] else name for name in reader.input]
            model.graph.node.remove(node)
    found = outputs(changed(model, "fuse-inverted-bottleneck"))
    np.testing.assert_allclose(found, outputs(model), rtol=1e-3, atol=1e-3)


def test_channels_tied_by_additions_change_together() -> None:
    groups = [group for group in channel_groups(Draft(bottlenecks(blocks=3))) if not group.fixed]
    residual = max(groups, key=lambda group: len(group.makers))
    assert len(residual.makers) == 4  # the first projection and those of three residual blocks
    assert len(residual.readers) == 4


def test_the_channels_with_the_largest_weights_stay_in_their_order() -> None:
    draft = Draft(bottlenecks(channels=20))
    group = next(g for g in channel_groups(draft) if g.carriers and len(g.makers) == 1 and not g.fixed)
    maker = draft.nodes[group.makers[0]]
    before = draft.constants[maker.input[1]]
    sizes = np.abs(before).reshape(len(before), -1).sum(1)
    set_width(draft, group, 16)
    kept = np.sort(np.argsort(-sizes)[:16])
    np.testing.assert_array_equal(draft.constants[maker.input[1]], before[kept])


def test_squeeze_and_excite_goes_away_with_its_branch() -> None:
    model = changed(gated(), "drop-squeeze-excite")
    assert {node.op_type for node in model.graph.node} == {"Conv", "HardSwish"}


def test_curved_activations_become_clamps() -> None:
    model = changed(gated(), "replace-activations")
    kinds = [node.op_type for node in model.graph.node]
    assert "HardSwish" not in kinds
    assert "HardSigmoid" in kinds  # a gate is no activation


def test_the_stride_moves_and_the_output_keeps_its_size() -> None:
    before, after = plain_chain(), changed(plain_chain(), "raise-stride-early")
    assert outputs(before).shape == outputs(after).shape
    steps = {node.name.split(".")[0]: Draft(after).conv(node) for node in after.graph.node if node.op_type == "Conv"}
    strides = [facts.strides for facts in steps.values() if facts is not None]
    assert strides.count((2, 2)) == 1


def test_a_quantised_model_is_refused_with_a_hint() -> None:
    model = plain_chain()
    index = GraphIndex(model)
    int8 = quantise(model, random_calibration(index.shape(index.inputs[0])))
    with pytest.raises(ModelError, match="quantised already") as caught:
        Draft(int8)
    assert "float model" in caught.value.hint


def _groups(node) -> int:  # noqa: ANN001
    return next((item.i for item in node.attribute if item.name == "group"), 1)
