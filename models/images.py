"""From an image file to the numbers a network reads, the same way in training and on a device. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ..common.errors import InputError

AnyImage: TypeAlias = Image.Image | NDArray[np.uint8]
Pixels: TypeAlias = NDArray[np.uint8]


def open_image(path: Path) -> Image.Image:
    """The decoded image, upright (EXIF orientation applied); a damaged or foreign file is refused by its path."""
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image)
    except (UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
        raise InputError(f"{path.name} is not a readable image: {error}", where=str(path)) from error
    except OSError as error:  # also what Pillow raises for a truncated file
        raise InputError(f"cannot read {path.name}: {error.strerror or error}", where=str(path)) from error


def to_pixels(image: AnyImage, channels: int, resolution: int) -> Pixels:
    """uint8 (channels, resolution, resolution): grey or RGB, squashed to a square by an antialiased bilinear filter.

    Arrays are (H, W) or (H, W, 3), uint8.
    """
    picture = _as_image(image).convert("L" if channels == 1 else "RGB")
    if picture.size != (resolution, resolution):
        picture = picture.resize((resolution, resolution), Image.Resampling.BILINEAR)
    pixels = np.asarray(picture)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def normalise(pixels: Pixels, mean: Sequence[float], std: Sequence[float]) -> NDArray[np.float32]:
    """(pixels / 255 − mean) / std per channel, for (C, H, W) or (N, C, H, W)."""
    centre, spread = (np.asarray(v, np.float32).reshape(-1, 1, 1) for v in (mean, std))
    return (pixels.astype(np.float32) / np.float32(255) - centre) / spread


def _as_image(image: AnyImage) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    legal = image.dtype == np.uint8 and image.size and (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3))
    if not legal:
        raise InputError(
            f"an image array is uint8 of shape (H, W) or (H, W, 3), got {image.dtype} {image.shape}",
            hint="scale to 0..255 and give one image at a time",
        )
    return Image.fromarray(image)
