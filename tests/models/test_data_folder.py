from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lanefit.common.errors import ConfigError, InputError
from lanefit.models.registry import find_task
from lanefit.models.tasks import Split, Task


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for name, count in (("cat", 10), ("dog", 20)):
        (tmp_path / name / "more").mkdir(parents=True)
        for index in range(count):
            pixels = generator.integers(0, 255, (9, 7, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / ("more" if index % 2 else ".") / f"{index}.png")
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    return tmp_path


def counts(task: Task) -> dict[Split, list[int]]:
    return {split: np.bincount(task.load(split, 8).labels).tolist() for split in Split}


def test_subfolders_are_classes_and_each_split_has_a_share_of_each(folder: Path) -> None:
    task = find_task(f"folder:{folder}")
    assert (task.class_names, task.channels) == (("cat", "dog"), 3)
    assert counts(task) == {Split.TRAIN: [7, 14], Split.VALIDATION: [1, 2], Split.TEST: [2, 4]}


def test_no_image_is_in_two_splits(folder: Path) -> None:
    task = find_task(f"folder:{folder}")
    images = np.concatenate([task.load(split, 8).images for split in Split])
    assert len(np.unique(images.reshape(30, -1), axis=0)) == 30


def test_the_split_depends_on_names_and_not_on_where_the_folder_lies(folder: Path, tmp_path: Path) -> None:
    before = find_task(f"folder:{folder}").load(Split.TEST, 8)
    moved = folder.rename(tmp_path.parent / f"{tmp_path.name}-moved")
    assert np.array_equal(find_task(f"folder:{moved}").load(Split.TEST, 8).images, before.images)


def test_a_corrupt_image_is_refused_by_its_path(folder: Path) -> None:
    task = find_task(f"folder:{folder}")
    for path in folder.rglob("*.png"):
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError) as caught:
        task.load(Split.TRAIN, 8)
    assert caught.value.where.startswith(str(folder))
    assert caught.value.where.endswith(".png")


def test_a_folder_that_is_absent_is_refused() -> None:
    with pytest.raises(ConfigError, match="there is no folder"):
        find_task("folder:/nowhere/at/all")


def test_a_folder_without_classes_or_with_a_class_too_small_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="not a folder of classes"):
        find_task(f"folder:{folder / 'dog'}")
    (folder / "bird").mkdir()
    with pytest.raises(ConfigError, match="class 'bird' has 0 images"):
        find_task(f"folder:{folder}")


def test_a_folder_of_splits_is_refused_with_a_hint(folder: Path) -> None:
    (folder / "cat").rename(folder / "train")
    (folder / "dog").rename(folder / "val")
    with pytest.raises(ConfigError, match="has train, val") as caught:
        find_task(f"folder:{folder}")
    assert "point at the training part" in caught.value.hint
