from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lanefit.common.errors import InputError
from lanefit.models.images import normalise, open_image, to_pixels


@given(st.integers(0, 255), st.sampled_from([1, 3]), st.integers(1, 20), st.integers(1, 20), st.integers(1, 24))
def test_a_plain_image_keeps_its_value_at_any_size(
    value: int, channels: int, height: int, width: int, size: int
) -> None:
    grey = np.full((height, width), value, np.uint8)
    colour = np.full((height, width, 3), value, np.uint8)
    for image in (grey, colour, Image.fromarray(grey)):
        pixels = to_pixels(image, channels, size)
        assert pixels.shape == (channels, size, size)
        assert (pixels == value).all()


def test_an_image_of_the_right_size_is_not_touched() -> None:
    image = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    assert (to_pixels(image, 3, 8) == image.transpose(2, 0, 1)).all()


def test_normalisation_is_per_channel() -> None:
    pixels = np.array([[[0]], [[255]]], np.uint8)
    result = normalise(pixels, (0.5, 0.2), (0.25, 0.4))
    assert result.dtype == np.float32
    assert np.allclose(result.ravel(), [-2, 2])
    assert np.array_equal(normalise(pixels[None], (0.5, 0.2), (0.25, 0.4))[0], result)


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.float32), np.zeros((4, 4, 2), np.uint8), np.zeros(4, np.uint8), np.zeros((0, 4), np.uint8)],
    ids=["float", "two channels", "flat", "empty"],
)
def test_an_array_that_is_no_image_is_refused(image: np.ndarray) -> None:
    with pytest.raises(InputError, match="an image array is uint8"):
        to_pixels(image, 1, 8)


def test_a_damaged_foreign_or_absent_file_is_refused_by_its_path(tmp_path: Path) -> None:
    good = tmp_path / "good.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)).save(good)
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:1000])
    (tmp_path / "text.png").write_text("no image")
    assert open_image(good).size == (32, 32)
    for name in ("cut.png", "text.png", "absent.png"):
        with pytest.raises(InputError, match=name) as caught:
            open_image(tmp_path / name)
        assert caught.value.where == str(tmp_path / name)


def test_orientation_tags_are_obeyed(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    Image.new("RGB", (6, 2)).save(tmp_path / "turned.jpg", exif=exif)
    assert open_image(tmp_path / "turned.jpg").size == (2, 6)
