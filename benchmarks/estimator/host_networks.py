"""Networks to calibrate this host with, and networks to test the calibration on; no architecture is in both."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import ModelProto

from lanefit.export.onnx_export import to_onnx
from lanefit.models.architecture import Architecture
from lanefit.models.nas_bench_201 import connected
from lanefit.models.registry import families
from lanefit.nas.onnx_bridge import to_timing_model
from lanefit.nas.space import Space

sys.path.insert(0, str(Path(__file__).parents[1]))
from zoo.axial import AxialBlock
from zoo.blocks import seeded
from zoo.transformer import VitTiny

SAMPLE, TEST = 0, 1  # streams of random numbers
SAMPLES = {"ibn-classifier": 40, "nas-bench-201": 12, "mnasnet": 24, "vit": 4, "axial": 6}
TESTS = {"ibn-classifier": 20, "nas-bench-201": 19, "mnasnet": 19, "vit": 1, "axial": 1}
FAMILIES = tuple(TESTS)
PORTS = {"ibn-classifier": (1, 10), "nas-bench-201": (3, 10), "mnasnet": (3, 1000)}  # input channels, classes
WIDTHS = (128, 192, 256, 320, 384)  # of transformers: 64 for each head
FRAMES, SIDES, CHANNELS = range(6, 15), (8, 12, 16, 24), (64, 128, 256)  # of axial blocks


def sample_networks(seed: int, folder: Path, wanted: Collection[str]) -> dict[str, ModelProto]:
    """What the user's networks look like: random architectures of the families that will be searched, 86 of all."""
    counts = {name: count for name, count in SAMPLES.items() if name in wanted}
    found = dict(_architectures(seed, SAMPLE, counts, set()))
    generator = np.random.default_rng((seed, SAMPLE))
    for number in range(counts.get("vit", 0)):
        width = int(generator.choice(WIDTHS))
        found[f"vit-{number}"] = _stored(folder, f"vit-{width}-1", lambda w=width: _vit(w, 1))
    for number in range(counts.get("axial", 0)):
        found[f"axial-{number}"] = _axial(folder, generator)
    return found


def test_networks(seed: int, folder: Path, wanted: Collection[str]) -> dict[str, ModelProto]:
    """60 networks of all families, none among the samples; ViT-tiny (Touvron et al. 2020, 12 blocks) is always one."""
    counts = {name: count for name, count in TESTS.items() if name in wanted}
    known = {a.digest() for a in _drawn(seed, SAMPLE, SAMPLES, set())}
    found = dict(_architectures(seed, TEST, counts, known))
    if "vit" in wanted:
        found["vit-tiny"] = _stored(folder, "vit-192-12", lambda: _vit(192, 12))
    if "axial" in wanted:
        found["axial-block"] = _axial(folder, np.random.default_rng((seed, TEST)))
    return found


def _architectures(seed: int, stream: int, counts: dict[str, int], known: set[str]) -> Iterator[tuple[str, ModelProto]]:
    numbers = dict.fromkeys(counts, 0)
    for architecture in _drawn(seed, stream, counts, known):
        channels, classes = PORTS[architecture.family]
        layers = families.get(architecture.family).layers(architecture, input_channels=channels, classes=classes)
        yield f"{architecture.family}-{numbers[architecture.family]}", to_timing_model(layers)
        numbers[architecture.family] += 1


def _drawn(seed: int, stream: int, counts: dict[str, int], known: set[str]) -> Iterator[Architecture]:
    """Different architectures of the searchable families; cells that compute nothing are no networks."""
    taken = set(known)
    for number, name in enumerate(PORTS):
        space, left = Space.of(families.get(name)), counts.get(name, 0)
        for value in np.random.SeedSequence((seed, stream, number)).generate_state(10 * left + 10):
            architecture = families.get(name).canonicalise(space.sample(int(value)))
            alive = name != "nas-bench-201" or connected(architecture)
            if left and alive and architecture.digest() not in taken:
                taken.add(architecture.digest())
                left -= 1
                yield architecture


def _vit(width: int, depth: int) -> ModelProto:
    return to_onnx(seeded(lambda: VitTiny(depth, width, width // 64)), (1, 3, 224, 224))


def _axial(folder: Path, generator: np.random.Generator) -> ModelProto:
    frames, side, channels = (int(generator.choice(options)) for options in (FRAMES, SIDES, CHANNELS))

    def build() -> ModelProto:
        torch.manual_seed(0)
        return to_onnx(AxialBlock((frames, side, side), channels), (1, frames, side, side, channels))

    return _stored(folder, f"axial-{frames}-{side}-{channels}", build)


def _stored(folder: Path, name: str, build: Callable[[], ModelProto]) -> ModelProto:
    """The model of this name in `folder`, exported when it is absent: exporting takes seconds."""
    path = folder / f"{name}.onnx"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        onnx.save(build(), path)
    return onnx.load(path)
