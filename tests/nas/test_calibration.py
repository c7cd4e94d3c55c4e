"""Calibration data comes prepared as in training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lanefit.common.errors import ConfigError, InputError
from lanefit.models.registry import find_task
from lanefit.models.tasks import Split
from lanefit.nas.calibration import folder_preprocessing, folder_samples, preprocessing_of, task_samples

DIGITS = find_task("digits")


def test_samples_of_a_task_are_its_training_images() -> None:
    samples = task_samples(DIGITS, 12, count=3)
    image, _ = DIGITS.example(Split.TRAIN, 1)
    assert [sample.shape for sample in samples] == [(1, 1, 12, 12)] * 3
    np.testing.assert_array_equal(samples[1][0], DIGITS.preprocess(image, 12))


def test_images_in_a_folder_are_prepared_like_the_task(tmp_path: Path) -> None:
    image, _ = DIGITS.example(Split.TRAIN, 0)
    (tmp_path / "some").mkdir()
    Image.fromarray(np.asarray(image)).save(tmp_path / "some" / "a.png")
    (sample,) = folder_samples(tmp_path, preprocessing_of(DIGITS, 16))
    np.testing.assert_array_equal(sample[0], DIGITS.preprocess(image, 16))


def test_arrays_in_a_folder_are_taken_as_they_are(tmp_path: Path) -> None:
    for number in range(3):
        np.save(tmp_path / f"{number}.npy", np.full((1, 2, 2), number, np.float32))
    assert [float(sample.max()) for sample in folder_samples(tmp_path, None, count=2)] == [0.0, 1.0]


@pytest.mark.parametrize("names", [(), ("a.txt",), ("a.npy", "b.png")])
def test_a_folder_of_nothing_or_of_both_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match="holds"):
        folder_samples(tmp_path, None)


def test_a_damaged_array_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"cannot read a\.npy"):
        folder_samples(tmp_path, None)


def test_images_need_a_preparation(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ConfigError, match="how to prepare"):
        folder_samples(tmp_path, None)


def test_a_foreign_model_gets_the_usual_preparation_of_images() -> None:
    assert folder_preprocessing((1, 3, 32, 32)).mean[0] == 0.485
    assert folder_preprocessing((1, 1, 8, 8)).std == (0.5,)
    for shape in ((1, 10), (1, 4, 8, 8), (1, 3, 8, 9)):
        with pytest.raises(ConfigError, match="cannot become inputs"):
            folder_preprocessing(shape)
