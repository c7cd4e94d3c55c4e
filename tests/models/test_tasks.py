from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lanefit.common.errors import ConfigError, InputError, UnknownNameError
from lanefit.models.data_archives import data_root
from lanefit.models.registry import families, find_task, tasks
from lanefit.models.tasks import Split

FILES = {
    "cifar10_jpeg": "cifar10_jpeg/cifar10.npz",
    "fashion_mnist": "fashion_mnist/fashion_mnist.npz",
    "mnist": "mnist/mnist.npz",
    "rooms": "rooms/rooms80.npz",
}
# test images of each class
EXPECTED = {"cifar10_jpeg": 600, "fashion_mnist": 500, "mnist": 300, "rooms": 64}


def test_digits_have_a_balanced_test_part_of_360_and_no_image_twice() -> None:
    digits = find_task("digits")
    parts = {split: digits.load(split, 8) for split in Split}
    assert [len(parts[split].labels) for split in Split] == [1257, 180, 360]
    assert (np.bincount(parts[Split.TEST].labels) == 36).all()
    assert (np.bincount(parts[Split.VALIDATION].labels) == 18).all()
    everything = np.concatenate([part.images for part in parts.values()])
    assert len(np.unique(everything.reshape(1797, -1), axis=0)) == 1797
    assert everything.max() == 255


def test_the_split_of_digits_never_changes() -> None:
    assert find_task("digits").load("test", 8).labels[:12].tolist() == [9, 4, 9, 1, 9, 7, 3, 1, 7, 9, 0, 2]


def test_the_first_images_are_a_limit_away() -> None:
    digits = find_task("digits")
    few, all_ = digits.load("train", 16, limit=20), digits.load("train", 16)
    assert np.array_equal(few.images, all_.images[:20])
    assert len(np.unique(few.labels)) >= 6


def test_an_image_file_is_preprocessed_exactly_as_in_training(tmp_path: Path) -> None:
    digits = find_task("digits")
    raw, label = digits.example("test", 5)
    Image.fromarray(np.asarray(raw)).save(tmp_path / "digit.png")
    images, labels = digits.load("test", 32)
    with Image.open(tmp_path / "digit.png") as image:
        assert np.array_equal(digits.preprocess(image, 32), digits.normalise(images)[5])
    assert label == labels[5]


def test_loaded_images_cannot_be_changed_by_accident() -> None:
    images, _ = find_task("digits").load("test", 8)
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0


def test_a_missing_example_or_a_bad_size_is_refused() -> None:
    digits = find_task("digits")
    with pytest.raises(InputError, match="has 360 images, no number 360"):
        digits.example("test", 360)
    with pytest.raises(ConfigError, match="must be positive"):
        digits.load("test", 0)


def test_an_unknown_task_is_refused_with_near_matches() -> None:
    with pytest.raises(UnknownNameError, match="unknown task 'digit'") as caught:
        find_task("digit")
    assert "did you mean digits?" in caught.value.hint


def test_an_absent_archive_is_refused_with_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANEFIT_DATA", str(tmp_path))
    with pytest.raises(ConfigError, match=r"mnist/mnist\.npz is not there") as caught:
        find_task("mnist").load("test", 9)
    assert "LANEFIT_DATA" in caught.value.hint


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 and nothing more", b"text"], ids=["empty", "cut", "text"])
def test_a_damaged_archive_is_refused_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes
) -> None:
    monkeypatch.setenv("LANEFIT_DATA", str(tmp_path))
    path = tmp_path / "mnist" / "mnist.npz"
    path.parent.mkdir()
    path.write_bytes(damage)
    with pytest.raises(InputError, match=r"mnist\.npz is damaged") as caught:
        find_task("mnist").load("test", 9)
    assert caught.value.where == str(path)


def test_a_damaged_jpeg_is_refused_by_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANEFIT_DATA", str(tmp_path))
    (tmp_path / "rooms").mkdir()
    offset, label, split = np.array([0, 9]), np.array([1]), np.array([2])
    path = tmp_path / "rooms" / "rooms80.npz"
    np.savez(path, jpeg=np.zeros(9, np.uint8), offset=offset, label=label, split=split)
    with pytest.raises(InputError, match=r"image 0 of rooms/rooms80\.npz is damaged"):
        find_task("rooms").load("test", 9)


@pytest.mark.parametrize("name", FILES)
def test_archives_hold_what_their_readme_says(name: str) -> None:
    if not (data_root() / FILES[name]).is_file():
        pytest.skip(f"{FILES[name]} is not under LANEFIT_DATA")
    task = find_task(name)
    images, labels = task.load(Split.TEST, 8)
    assert np.bincount(labels).tolist() == [EXPECTED[name]] * task.classes
    normalised = task.normalise(images)
    assert normalised.shape == (len(labels), task.channels, 8, 8)
    assert np.abs(normalised.mean((0, 2, 3))).max() < 0.1


def test_listing_and_describing_never_imports_torch() -> None:
    code = (
        "import sys; from lanefit.models.registry import families, find_task, tasks;"
        "from lanefit.models.baselines import mobilenet_v2;"
        "f = families.get('ibn-classifier'); f.layers(mobilenet_v2(), input_channels=1, classes=10);"
        "t = find_task('digits'); t.load('test', 8);"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_registered_name_resolves() -> None:
    for name in families:
        assert families.get(name).name == name
    for name in tasks:
        assert tasks.get(name).name == name
