"""Whole networks of `benchmarks/networks.py`: the emulated engine against the TOSA reference model, bit for bit.

The engine's part of each int8 network is compiled, executed on one random image, and run through TOSA's reference
model as well; a network that the engine takes in several regions is compared region by region. Needs tosa-tools.
"""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from lanefit.export.compiler import compile_graph
from lanefit.export.graph import Graph
from lanefit.export.importer import import_model
from lanefit.export.random_graphs import random_inputs
from lanefit.export.reference import to_host, to_map
from lanefit.export.tosa import has_tosa_form, run_tosa
from lanefit.targets.emulator import Emulator
from lanefit.targets.encoding import decode, encode
from lanefit.targets.spec import EngineSpec, load_spec

sys.path.insert(0, str(Path(__file__).parents[1]))
from networks import NETWORKS, int8

from common import finish, parser


@dataclass(slots=True)
class Found:
    """Operators and output elements of a network's regions; `beyond_tosa` regions hold an operator that TOSA lacks."""

    regions: int = 0
    beyond_tosa: int = 0
    operators: int = 0
    elements: int = 0
    different: int = 0
    seconds: float = 0.0


def compare(graph: Graph, spec: EngineSpec, rng: np.random.Generator) -> tuple[int, int]:
    """Output elements of a region, and in how many of them engine and TOSA differ."""
    inputs = random_inputs(rng, graph, 1)
    given = {name: to_host(value, graph.tensors[name]) for name, value in inputs.items()}
    device = Emulator(decode(encode(compile_graph(graph, spec).program))).run(given)
    oracle = run_tosa(graph, inputs)
    wrong = [to_map(device[name], graph.tensors[name]) != expected for name, expected in oracle.items()]
    return sum(found.size for found in wrong), sum(int(found.sum()) for found in wrong)


def network(name: str, spec: EngineSpec, seed: int) -> Found:
    found, began = Found(), time.monotonic()
    for region in import_model(int8(name)).regions:
        found.regions += 1
        if not has_tosa_form(region.graph):
            found.beyond_tosa += 1
            continue
        elements, different = compare(region.graph, spec, np.random.default_rng(seed))
        found.operators += len(region.graph.nodes)
        found.elements += elements
        found.different += different
    found.seconds = time.monotonic() - began
    return found


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--target", default="ne-256", help="preset or TOML file (default: %(default)s)")
    options.add_argument("--network", action="append", choices=sorted(NETWORKS), help="repeatable; default: all")
    args = options.parse_args()
    spec = load_spec(args.target)
    rows = {name: network(name, spec, args.seed) for name in args.network or NETWORKS}
    print(f"{'network':24} {'regions':>8} {'operators':>10} {'elements':>10} {'different':>10} {'seconds':>8}")
    for name, found in rows.items():
        note = f"   {found.beyond_tosa} regions hold operators that TOSA lacks" if found.beyond_tosa else ""
        figures = f"{found.regions:>8} {found.operators:>10} {found.elements:>10} {found.different:>10}"
        print(f"{name:24} {figures} {found.seconds:>8.1f}{note}")
    different = sum(found.different for found in rows.values())
    networks = {name: asdict(found) for name, found in rows.items()}
    finish(args.json, {"target": spec.name, "different": different, "networks": networks}, seed=args.seed)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
