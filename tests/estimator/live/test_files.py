from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from estimator.live.synthetic import true_latency_us
from estimator.live.test_additive import CACHES, as_sum, random_graph
from hypothesis import given
from hypothesis import strategies as st

from lanefit.common.errors import InputError
from lanefit.estimator.live.additive import fit_additive
from lanefit.estimator.live.files import CalibratedDevice, load_device, save_device


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[CalibratedDevice, Path]:
    graphs = [random_graph(np.random.default_rng(seed), 3) for seed in range(30)]
    model = fit_additive([as_sum(g) for g in graphs], [true_latency_us(g) for g in graphs])
    calibrated = CalibratedDevice(model, "board", "runtime 1", CACHES)
    path = tmp_path_factory.mktemp("live") / "device.json"
    save_device(path, calibrated)
    return calibrated, path


def test_a_loaded_device_predicts_what_the_saved_one_did(saved: tuple[CalibratedDevice, Path]) -> None:
    calibrated, path = saved
    loaded = load_device(path)
    sums = [as_sum(random_graph(np.random.default_rng(seed), 8)) for seed in range(100, 105)]
    for one, other in zip(loaded.model.predict(sums), calibrated.model.predict(sums), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)
    assert (loaded.device, loaded.toolchain, loaded.caches) == ("board", "runtime 1", CACHES)


@pytest.mark.parametrize(("key", "value"), [("schema", "other"), ("schema_version", 99)])
def test_another_schema_or_version_is_refused_with_a_hint(
    saved: tuple[CalibratedDevice, Path], tmp_path: Path, key: str, value: object
) -> None:
    content = json.loads(saved[1].read_text())
    path = tmp_path / "other.json"
    path.write_text(json.dumps({**content, key: value}))
    with pytest.raises(InputError) as caught:
        load_device(path)
    assert caught.value.hint


_JUNK = st.none() | st.integers(-3, 3) | st.text(max_size=3) | st.lists(st.integers(), max_size=2)


@given(data=st.data(), junk=_JUNK)
def test_damage_is_a_typed_error_or_harmless(
    saved: tuple[CalibratedDevice, Path], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, junk: object
) -> None:
    content = json.loads(saved[1].read_text())
    content["measurements"] = content["measurements"][:12]
    place: Any = content
    while isinstance(place, dict | list) and len(place):
        key = data.draw(st.sampled_from(list(place) if isinstance(place, dict) else list(range(len(place)))))
        if not isinstance(place[key], dict | list) or data.draw(st.booleans()):
            place[key] = junk
            break
        place = place[key]
    path = tmp_path_factory.mktemp("damage") / "device.json"
    path.write_text(json.dumps(content))
    with contextlib.suppress(InputError):
        assert load_device(path).model.predict([as_sum(random_graph(np.random.default_rng(0), 2))])[0].shape == (1,)
