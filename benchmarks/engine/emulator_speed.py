"""Speed and memory of the compiler, the emulator and the cycle model on MobileNetV2, one process.

Two networks from random int8 weights, built without torch: `mobilenet-v2-1.0-224`, of which one image is
emulated, and `mobilenet-v2-0.5-32` for 32×32 images, of which a batch is; `first-block` is the begin of the
latter. Wall times belong to the machine in the environment record; `peak_bytes` is the most memory that the
process had taken from the system by then.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from lanefit.export.compiler import compile_graph
from lanefit.export.graph import Graph
from lanefit.export.random_graphs import GraphBuilder, random_inputs
from lanefit.kernels.ops import Add, Conv2d, Pool2d, Window
from lanefit.targets.emulator import Emulator
from lanefit.targets.encoding import decode, encode
from lanefit.targets.program import Program
from lanefit.targets.resolve import walk
from lanefit.targets.spec import EngineSpec, load_spec
from lanefit.targets.timing import simulate

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import finish, parser

_KIB = 1024  # the unit of ru_maxrss on Linux
_SCALE = 0.02
Blocks = tuple[tuple[int, int, int, int], ...]  # expansion, channels, repetitions, stride of the first one


@dataclass(frozen=True, slots=True)
class Mobilenet:
    """A MobileNetV2 (Sandler et al., CVPR 2018, table 2) at some width; without a head when `head` is 0."""

    resolution: int
    stem: int
    stem_stride: int
    blocks: Blocks
    head: int
    classes: int


LARGE = Mobilenet(
    224, 32, 2,
    ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
    1280, 1000,
)  # fmt: skip
SMALL = Mobilenet(
    32, 16, 1,
    ((1, 8, 1, 1), (6, 16, 2, 1), (6, 16, 3, 2), (6, 32, 4, 2), (6, 48, 3, 1), (6, 80, 3, 2), (6, 160, 1, 1)),
    640, 10,
)  # fmt: skip
FIRST_BLOCK = Mobilenet(32, 16, 1, SMALL.blocks[:1], 0, 0)


def build(network: Mobilenet, rng: np.random.Generator) -> Graph:
    """Stem, inverted bottlenecks and head."""
    b = GraphBuilder(rng)
    image = b.tensor("image", (network.resolution, network.resolution, 3), _SCALE)
    name = _conv(b, image, network.stem, 3, network.stem_stride)
    for expansion, channels, repetitions, stride in network.blocks:
        for number in range(repetitions):
            name = _bottleneck(b, name, expansion, channels, stride if number == 0 else 1)
    if network.head:
        name = _conv(b, name, network.head, 1)
        height, width, channels = b.tensors[name].shape
        name = b.add_node(Pool2d((height, width, channels), (1, 1, channels), Window(height, width), False), name)
        name = _conv(b, name, network.classes, 1)
    return b.graph((name,))


def _bottleneck(b: GraphBuilder, source: str, expansion: int, channels: int, stride: int) -> str:
    inputs = b.tensors[source].shape[2]
    name = _conv(b, source, expansion * inputs, 1) if expansion > 1 else source
    name = _conv(b, name, expansion * inputs, 3, stride, depthwise=True)
    name = _conv(b, name, channels, 1)
    if (inputs, stride) != (channels, 1):
        return name
    return _scaled(b, b.add_node(Add(b.tensors[name].shape), source, name))


def _conv(b: GraphBuilder, source: str, channels: int, kernel: int, stride: int = 1, *, depthwise: bool = False) -> str:
    height, width, inputs = b.tensors[source].shape
    pad = kernel // 2
    window = Window(kernel, kernel, stride, stride, pad, pad)
    shape = ((height - 1) // stride + 1, (width - 1) // stride + 1, channels)
    return _scaled(b, b.add_node(Conv2d((height, width, inputs), shape, window, depthwise), source))


def _scaled(b: GraphBuilder, name: str) -> str:
    """Gives the newest map the scale of the image: drawn scales multiply up over the depth of such networks."""
    tensor, node = b.tensors[name], b.nodes[-1].name
    quantisation = replace(tensor.quantisation, scale=_SCALE)
    if constants := b.constants.get(node):
        scales = constants.scales * (_SCALE / tensor.quantisation.scale)
        b.constants[node] = replace(constants, scales=scales)
    b.tensors[name] = replace(tensor, quantisation=quantisation)
    return name


def emulate(program: Program, graph: Graph, images: int, rng: np.random.Generator) -> dict[str, float]:
    """Seconds to decode the file and to run `images` images through it."""
    data = encode(program)
    value = random_inputs(rng, graph, images)[graph.inputs[0]]
    inputs = {graph.inputs[0]: np.ascontiguousarray(value.transpose(0, 3, 1, 2))}
    seconds = _seconds(lambda: Emulator(decode(data)).run(inputs))
    macs = graph.macs * images
    return {
        "images": images,
        "seconds": seconds,
        "images_per_second": images / seconds,
        "macs_per_second": macs / seconds,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB,
    }


def time_simulation(program: Program, repetitions: int) -> dict[str, float]:
    """Median seconds of one simulation, and dynamic instructions (LOOP and END not counted) per second."""
    count = sum(1 for queue in program.queues.values() for _ in walk(queue))
    seconds = median(_seconds(lambda: simulate(program)) for _ in range(repetitions))
    return {"instructions": count, "seconds": seconds, "instructions_per_second": count / seconds}


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def measure(
    network: Mobilenet, spec: EngineSpec, images: int, repetitions: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Figures of one network; `emulator` only when there are `images`."""
    graph = build(network, rng)
    start = time.perf_counter()
    program = compile_graph(graph, spec).program
    found: dict[str, Any] = {
        "macs": graph.macs,
        "convolutions": sum(isinstance(node.op, Conv2d) for node in graph.nodes),
        "compile_seconds": time.perf_counter() - start,
        "timing": time_simulation(program, repetitions),
    }
    return {**found, "emulator": emulate(program, graph, images, rng)} if images else found


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--target", default="ne-256", help="preset or TOML file (default: %(default)s)")
    options.add_argument("--images", type=int, default=360, help="32×32 images to emulate (default: %(default)s)")
    options.add_argument("--repetitions", type=int, default=21, help="simulations to take the median of")
    args = options.parse_args()
    spec, rng = load_spec(args.target), np.random.default_rng(args.seed)
    networks = {
        "mobilenet-v2-1.0-224": measure(LARGE, spec, 1, args.repetitions, rng),
        "mobilenet-v2-0.5-32": measure(SMALL, spec, args.images, args.repetitions, rng),
        "first-block": measure(FIRST_BLOCK, spec, 0, args.repetitions, rng),
    }
    for name, found in networks.items():
        _report(name, found)
    finish(args.json, {"target": spec.name, "networks": networks}, seed=args.seed)
    return 0


def _report(name: str, found: dict[str, Any]) -> None:
    timing = found["timing"]
    rate = timing["instructions_per_second"] / 1e3
    print(f"{name}: compiled in {found['compile_seconds']:.2f} s")
    milliseconds = timing["seconds"] * 1e3
    print(f"    timing    {timing['instructions']} instructions in {milliseconds:.1f} ms, {rate:.0f} thousand/s")
    if run := found.get("emulator"):
        speed = f"{run['images']} images in {run['seconds']:.2f} s, {run['macs_per_second'] / 1e9:.2f} GMAC/s"
        print(f"    emulator  {speed}, process at most {run['peak_bytes'] / 2**20:.0f} MiB")


if __name__ == "__main__":
    sys.exit(main())
