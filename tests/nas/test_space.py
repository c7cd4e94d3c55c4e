from __future__ import annotations

from collections import Counter
from pathlib import Path

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nas_fakes import TOY

from lanefit.common.errors import ConfigError
from lanefit.models.architecture import Architecture
from lanefit.models.registry import families
from lanefit.nas.space import Space

SPACE = Space.of(TOY)


def _ask() -> optuna.trial.Trial:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study().ask()


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_a_sample_is_inside_the_space_and_repeats_for_its_seed(seed: int) -> None:
    architecture = SPACE.sample(seed)
    SPACE.check(architecture)
    assert architecture == SPACE.sample(seed)
    assert architecture == TOY.canonicalise(architecture)


def test_samples_cover_every_value_of_every_knob() -> None:
    seen = {item for seed in range(300) for item in SPACE.sample(seed).knobs}
    assert seen == {(knob.name, value) for knob in SPACE.knobs for value in knob.values}


def test_only_active_knobs_are_suggested() -> None:
    depths = Counter()
    for seed in range(30):
        trial = _ask()
        trial.study.sampler = optuna.samplers.RandomSampler(seed=seed)
        architecture = SPACE.suggest(trial)
        assert trial.params == architecture.values
        assert any(name.startswith("second") for name in trial.params) == (architecture.values["depth"] == 2)
        depths[architecture.values["depth"]] += 1
    assert set(depths) == {1, 2}


def test_evenly_spaced_numbers_keep_their_order_for_the_sampler() -> None:
    trial = _ask()
    SPACE.restrict({"depth": [2]}).suggest(trial)
    assert trial.distributions["first_kernel"] == optuna.distributions.IntDistribution(1, 5, step=2)
    assert trial.distributions["second_block"] == optuna.distributions.CategoricalDistribution(("conv", "separable"))
    assert "depth" not in trial.distributions  # nothing is left to choose


def test_the_cardinality_counts_active_knobs_only() -> None:
    everything = {TOY.canonicalise(_numbered(number)).digest() for number in range(2 * 5 * 3 * 4 * 2 * 2)}
    assert SPACE.cardinality() == len(everything) == 5 * 3 * 2 * (1 + 4 * 2)


def _numbered(number: int) -> Architecture:
    values = {}
    for knob in SPACE.knobs:
        number, index = divmod(number, len(knob.values))
        values[knob.name] = knob.values[index]
    return Architecture(TOY.name, tuple(values.items()))


def test_the_cardinality_of_a_real_family_is_exact_for_its_nested_knobs() -> None:
    family = families.get("ibn-classifier")
    fixed = {knob.name: [knob.values[0]] for knob in family.knobs()}
    free = {
        "stages": [2],
        "stage2_depth": [1, 2, 3],
        "stage2_block1": ["fused", "conv"],
        "stage2_block2": ["ibn", "conv"],
    }
    space = Space.of(family).restrict({**fixed, **free, "stage2_block3": ["conv"], "stage2_expansion": [2, 3]})
    # per depth: block1 × block2, and the expansion counts unless every block is a plain convolution
    assert space.cardinality() == (2 + 1) + (3 * 2 + 1) + (3 * 2 + 1)
    assert {space.sample(seed).digest() for seed in range(400)}.__len__() == space.cardinality()


def test_a_restriction_is_read_from_a_file_and_keeps_the_order_of_the_family(tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text('[knobs]\nfirst_channels = [24, 16]\nactivation = ["relu6"]\n', encoding="utf-8")
    knobs = {knob.name: knob.values for knob in SPACE.restrict_file(path).knobs}
    assert (knobs["first_channels"], knobs["activation"], knobs["depth"]) == ((16, 24), ("relu6",), (1, 2))


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("[knobs]\nfirst_chanels = [16]", "unknown knob 'first_chanels'", "did you mean first_channels"),
        ("[knobs]\nfirst_channels = [18]", "first_channels has no value 18", "did you mean 16 or 24?"),
        ("[knobs]\nsecond_block = ['convv']", "second_block has no value 'convv'", "did you mean conv?"),
        ("[knobs]\ndepth = [true]", "depth has no value True", "allowed: 1, 2"),
        ("[knobs]\ndepth = 2", "depth needs a list of values, got 2", "allowed: 1, 2"),
        ("[knobs]\ndepth = []", "depth needs a list of values", "allowed: 1, 2"),
    ],
)
def test_a_bad_restriction_names_file_and_key(tmp_path: Path, text: str, what: str, hint: str) -> None:
    path = tmp_path / "space.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        SPACE.restrict_file(path)
    assert what in caught.value.what
    assert hint in caught.value.hint
    assert caught.value.where.startswith(f"{path}:")


@pytest.mark.parametrize("text", ["[knobs", "[knob]\ndepth = [1]", "", "knobs = 3"])
def test_a_restriction_file_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "space.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError):
        SPACE.restrict_file(path)


def test_a_missing_restriction_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        SPACE.restrict_file(tmp_path / "absent.toml")


def test_an_architecture_outside_of_the_space_is_refused() -> None:
    with pytest.raises(ConfigError, match="depth has no value 2"):
        SPACE.restrict({"depth": [1]}).check(SPACE.restrict({"depth": [2]}).sample(0))
