"""Networks block by block: what each does and how long it takes, compiled. The data of the architecture diagram."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from ...common.units import cycles_to_us
from ...export.compiler import Compiled
from ...models.layers import LayerKind, LayerSpec, MapShape
from ...targets.spec import EngineSpec
from ..bridge import to_graph
from ..measure import compile_shapes

_NAME_PARTS = 2  # families name layers stage_block_layer


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive layers with a common name. `bound` is what holds most of `latency_us`."""

    name: str
    layers: tuple[str, ...]
    input_shape: MapShape
    output_shape: MapShape
    macs: int
    latency_us: float
    bound: str


@dataclass(frozen=True, slots=True)
class NetworkSketch:
    """A network for the diagram; the blocks' times add up to `latency_us`."""

    title: str
    blocks: tuple[Block, ...]

    @property
    def latency_us(self) -> float:
        return sum(block.latency_us for block in self.blocks)


def sketch_network(title: str, layers: Sequence[LayerSpec], spec: EngineSpec) -> NetworkSketch:
    """Compiles the layers for the engine and shares out the time; `UnsupportedError` if it cannot run them.

    A subgraph that was fused out of two blocks counts where it ends.
    """
    groups: dict[str, list[LayerSpec]] = {}
    for layer in layers:
        groups.setdefault(_block_name(layer.name), []).append(layer)
    times = _times(compile_shapes(to_graph(layers), spec))
    return NetworkSketch(title, tuple(_block(name, group, times.get(name, {})) for name, group in groups.items()))


def facing(a: NetworkSketch, b: NetworkSketch) -> list[tuple[Block | None, Block | None]]:
    """The blocks of two networks side by side in the order of both, those of the same name facing each other."""
    names = [[block.name for block in network.blocks] for network in (a, b)]
    rows: list[tuple[Block | None, Block | None]] = []
    for kind, i1, i2, j1, j2 in SequenceMatcher(None, *names, autojunk=False).get_opcodes():
        if kind == "equal":
            rows += zip(a.blocks[i1:i2], b.blocks[j1:j2], strict=True)
        else:
            rows += [(block, None) for block in a.blocks[i1:i2]]
            rows += [(None, block) for block in b.blocks[j1:j2]]
    return rows


def _times(compiled: Compiled) -> dict[str, dict[str, float]]:
    """Microseconds by block and by what bounds them."""
    clock = compiled.program.spec.clock_mhz
    found: dict[str, dict[str, float]] = {}
    for part in compiled.report:
        bounds = found.setdefault(_block_name(part.nodes[-1]), {})
        bounds[part.bound] = bounds.get(part.bound, 0.0) + cycles_to_us(part.cycles - part.hidden_cycles, clock)
    return found


def _block(name: str, layers: Sequence[LayerSpec], times: dict[str, float]) -> Block:
    return Block(
        name,
        tuple(_words(layers)),
        layers[0].input_shape,
        layers[-1].output_shape,
        sum(layer.macs for layer in layers),
        sum(times.values()),
        max(times, key=lambda bound: times[bound], default=""),
    )


def _words(layers: Iterable[LayerSpec]) -> Iterable[str]:
    for layer in layers:
        stride = f" stride {layer.stride}" if layer.stride > 1 else ""
        match layer.kind:
            case LayerKind.CONV | LayerKind.DEPTHWISE | LayerKind.AVERAGE_POOL:
                yield f"{layer.kernel}×{layer.kernel} {layer.kind.replace('_', ' ')}{stride}"
            case LayerKind.ADD | LayerKind.MUL | LayerKind.LINEAR | LayerKind.GLOBAL_AVERAGE_POOL | LayerKind.ZERO:
                yield layer.kind.replace("_", " ")
            case LayerKind.BATCH_NORM | LayerKind.ACTIVATION:
                continue


def _block_name(layer: str) -> str:
    return "_".join(layer.split(".")[0].split("_")[:_NAME_PARTS])
