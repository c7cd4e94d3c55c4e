"""Device against the independent integer reference, bit for bit, on random graphs over all kernels and presets.

Every graph is compiled, encoded to bytes, decoded, and executed by the emulator with a randomly drawn
interleaving of its units; outputs must equal those of `lanefit.export.reference` exactly.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np

from lanefit.common.errors import ProgramFault, UnsupportedError
from lanefit.export.compiler import compile_graph
from lanefit.export.graph import Graph
from lanefit.export.random_graphs import random_graph, random_inputs, random_spec
from lanefit.export.reference import run_graph
from lanefit.targets.emulator import Emulator
from lanefit.targets.encoding import decode, encode
from lanefit.targets.spec import EngineSpec, load_spec, preset_names

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import finish, parser

_ORDERS = ("program", "dma-first", "compute-first", "random")


def compare(graph: Graph, spec: EngineSpec, rng: np.random.Generator, kinds: Counter[str]) -> int | None:
    """Number of differing output elements; None when this engine is too small for the graph."""
    try:
        compiled = compile_graph(graph, spec)
    except UnsupportedError:
        return None
    kinds.update(
        f"{step.subgraph.kind}{' (streamed)' if step.subgraph.streams else ''}" for step in compiled.plan.steps
    )
    inputs = random_inputs(rng, graph, 2)
    emulator = Emulator(decode(encode(compiled.program)), order=str(rng.choice(_ORDERS)), seed=int(rng.integers(1000)))
    try:
        actual = emulator.run({name: to_host(value, graph.tensors[name].host_shape) for name, value in inputs.items()})
    except ProgramFault as fault:
        print(fault, file=sys.stderr)
        return sum(graph.tensors[name].size_bytes for name in graph.outputs)
    expected = run_graph(graph, inputs)
    return sum(int((actual[n] != to_host(expected[n], graph.tensors[n].host_shape)).sum()) for n in graph.outputs)


def to_host(value: np.ndarray, host_shape: tuple[int, ...]) -> np.ndarray:
    """(batch, H, W, C) in the order that the host sees, (batch, *host_shape)."""
    return np.ascontiguousarray(value.transpose(0, 3, 1, 2)).reshape(len(value), *host_shape)


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--count", type=int, default=500, help="graphs to compare (default: %(default)s)")
    args = options.parse_args()
    presets = [load_spec(name) for name in preset_names()]
    kinds: Counter[str] = Counter()
    compared = different = refused = 0
    stream = np.random.SeedSequence(args.seed)
    while compared < args.count:
        (seed,) = stream.spawn(1)
        rng = np.random.default_rng(seed)
        graph = random_graph(rng)
        result = compare(graph, random_spec(rng, presets, graph), rng, kinds)
        if result is None:
            refused += 1
            continue
        compared += 1
        different += result > 0
    for kind, count in sorted(kinds.items()):
        print(f"{kind:32} {count:6}")
    print(f"compared {compared} graphs ({refused} refused as too large for the drawn SRAM), different: {different}")
    finish(
        args.json,
        {"compared": compared, "different": different, "refused": refused, "kinds": dict(kinds)},
        seed=args.seed,
    )
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
