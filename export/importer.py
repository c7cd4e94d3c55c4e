"""QDQ ONNX → engine regions, host model and one placement for every operator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onnx import ModelProto

from ..kernels.cuboid_op import CuboidAttention
from .attention_site import attention_piece, attention_sites
from .normalise import normalise
from .onnx_model import GraphIndex
from .operands import Layout
from .placement import Placement, attention_refusal, border, cuboid_attention, refusal, rule_name, tiling, view
from .regions import Region, form_regions
from .site_maps import Piece
from .sites import BORDER, sites
from .translate import translate


@dataclass(frozen=True, slots=True)
class Imported:
    """`model` is the canonical QDQ model, `host` the same with one `LanefitRegion` node for each region."""

    model: ModelProto
    host: ModelProto
    regions: tuple[Region, ...]
    placements: tuple[Placement, ...]


def import_model(
    model: ModelProto, *, demoted: Mapping[str, str] | None = None, input_shape: tuple[int, ...] | None = None
) -> Imported:
    """Splits a QDQ model. `demoted` keeps operators on the CPU that the compiler could not tile: name → reason.

    Raises `ModelError` for a float model, dynamic shapes and batches other than 1.
    """
    model = normalise(model, input_shape)
    pieces, refused = _place(GraphIndex(model), demoted or {})
    host, regions = form_regions(model, pieces)
    return Imported(model, host, regions, _placements(model, host, pieces, refused))


def _place(index: GraphIndex, demoted: Mapping[str, str]) -> tuple[dict[str, Piece], dict[str, tuple[str, str]]]:
    pieces, refused = _place_attention(index, demoted)
    taken = {name for piece in pieces.values() for node in piece.nodes for name in node.source}
    held = {t.name: Layout(t.shape, t.channels_last) for piece in pieces.values() for t in piece.tensors}
    for site in sites(index, held):
        if site.node.name in taken or site.node.name in refused:
            continue
        reason = (rule_name(tiling), demoted[site.node.name]) if site.node.name in demoted else refusal(site)
        if reason is not None:
            refused[site.node.name] = reason
            continue
        pieces[site.node.name] = translate(site)
        taken.update(node.name for node in site.members)
    return pieces, refused


def _place_attention(
    index: GraphIndex, demoted: Mapping[str, str]
) -> tuple[dict[str, Piece], dict[str, tuple[str, str]]]:
    pieces: dict[str, Piece] = {}
    refused: dict[str, tuple[str, str]] = {}
    for site in attention_sites(index):
        reason = (rule_name(tiling), demoted[site.name]) if site.name in demoted else attention_refusal(site)
        if reason is None:
            pieces[site.name] = attention_piece(site)
        else:
            refused[site.name] = reason
    return pieces, refused


def _placements(
    model: ModelProto, host: ModelProto, pieces: Mapping[str, Piece], refused: Mapping[str, tuple[str, str]]
) -> tuple[Placement, ...]:
    on_cpu = {node.name for node in host.graph.node}
    result = []
    parts = {
        name: node.name
        for piece in pieces.values()
        for node in piece.nodes
        for name in node.source
        if isinstance(node.op, CuboidAttention)
    }
    for node in model.graph.node:
        if node.name in parts and node.name not in on_cpu:
            result.append(Placement(node.name, node.op_type, "engine", rule_name(cuboid_attention), parts[node.name]))
        elif node.name not in on_cpu:
            result.append(Placement(node.name, node.op_type, "engine"))
        elif node.name in refused:
            result.append(Placement(node.name, node.op_type, "cpu", *refused[node.name]))
        else:
            rule = border if node.op_type in BORDER else view
            result.append(Placement(node.name, node.op_type, "cpu", rule_name(rule), node.op_type))
    return tuple(result)
