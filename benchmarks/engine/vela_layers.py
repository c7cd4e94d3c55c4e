"""Holds the block model against Arm's Ethos-U55 compiler, layer by layer.

`exact_rows_share`: share of convolution, depthwise, fully connected and pooling rows whose MAC and output cycles are
within one cycle of the table's, given the table's blocks. `mae_own_tiling`: mean absolute relative error of
whole-layer cycles with the blocks that our own search chooses; the size of the encoded weights and when they are
copied to SRAM are taken from the table, since they depend on values and on the schedule around the layer.
`alignment_spearman`: rank correlation of layer cycles over channel counts, over every kind and accelerator together
and for each; `cliffs` names the steps 16→17, 32→33 and 64→65 with the ratio of cycles in the table and in the model.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from scipy.stats import spearmanr

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
from vela_tables import Judged, judge, read_alignment, read_layers

from common import finish, parser

CLIFFS = ((16, 17), (32, 33), (64, 65))
PRESENT = 0.5  # a cliff is present when the model's step is at least this share of the table's


def figures(judged: Sequence[Judged]) -> dict[str, Any]:
    """Shares and errors over some rows."""
    return {
        "rows": len(judged),
        "exact_rows_share": fmean(item.exact for item in judged),
        "mae_own_tiling": fmean(abs(item.error) for item in judged),
        "same_block_share": fmean(item.own_block == item.row.block for item in judged),
    }


def layers(path: Path) -> dict[str, Any]:
    """Figures over all rows, per accelerator, network and operator."""
    judged = [judge(row) for row in read_layers(path)]
    found = figures(judged)
    for name in ("accelerator", "network", "operator"):
        groups: dict[str, list[Judged]] = defaultdict(list)
        for item in judged:
            groups[getattr(item.row, name)].append(item)
        found[f"by_{name}"] = {key: figures(items) for key, items in groups.items()}
    found["inexact"] = [f"{j.row.accelerator} {j.row.network} {j.row.layer}" for j in judged if not j.exact]
    return found


def alignment(path: Path) -> dict[str, Any]:
    """Rank correlation and cliffs of the channel staircase."""
    curves: dict[tuple[str, str], dict[int, tuple[float, float]]] = defaultdict(dict)
    for kind, channels, row in read_alignment(path):
        curves[row.accelerator, kind][channels] = row.op_cycles, judge(row).own_cycles
    pairs = [pair for curve in curves.values() for pair in curve.values()]
    return {
        "alignment_spearman": _spearman(pairs),
        "alignment_error": fmean(abs(ours / theirs - 1) for theirs, ours in pairs),
        "alignment": {f"{a} {k}": {"spearman": _spearman(list(c.values()))} for (a, k), c in curves.items()},
        "cliffs": [cliff for (a, k), c in curves.items() for cliff in _cliffs(f"{a} {k}", c)],
    }


def _spearman(pairs: Sequence[tuple[float, float]]) -> float:
    theirs, ours = zip(*pairs, strict=True)
    return float(spearmanr(theirs, ours).statistic)


def _cliffs(name: str, curve: dict[int, tuple[float, float]]) -> list[dict[str, Any]]:
    found = []
    for low, high in CLIFFS:
        if low in curve and high in curve:
            theirs, ours = (curve[high][side] / curve[low][side] for side in (0, 1))
            present = ours - 1 >= PRESENT * (theirs - 1)
            found.append({"curve": name, "step": f"{low}-{high}", "table": theirs, "model": ours, "present": present})
    return found


def main() -> int:
    options = parser(__doc__, seed=None)
    options.add_argument("--tables", type=Path, required=True, help="directory with the compiler's CSV tables")
    args = options.parse_args()
    found = layers(args.tables / "vela_per_layer_blockcfg.csv") | alignment(args.tables / "vela_channel_alignment.csv")
    print(f"{'rows':34}{'rows':>6}{'exact':>9}{'own error':>11}{'same block':>12}")
    groups = [("all", found)]
    groups += [
        (key, value) for name in ("accelerator", "network", "operator") for key, value in found[f"by_{name}"].items()
    ]
    for key, value in groups:
        print(
            f"{key:34}{value['rows']:6}{value['exact_rows_share']:9.1%}"
            f"{value['mae_own_tiling']:11.2%}{value['same_block_share']:12.1%}"
        )
    present = sum(cliff["present"] for cliff in found["cliffs"])
    print(f"alignment: Spearman {found['alignment_spearman']:.4f}, error {found['alignment_error']:.2%}")
    print(f"cliffs present: {present} of {len(found['cliffs'])}")
    finish(args.json, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
