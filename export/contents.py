"""What goes into a package: manifest, placement table and the other members, from a built network."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from onnx import ModelProto

from ..common.environment import versions
from ..common.files import canonical_json
from ..targets.encoding import encode
from .host import host_target
from .judgement import Judgement
from .occupancy import spans
from .onnx_model import DEQUANTISE, QUANTISE, GraphIndex, QuantParams, model_bytes
from .package import (
    HOST,
    INT8_MODEL,
    MODEL,
    PLACEMENT,
    Manifest,
    Package,
    Preprocessing,
    RegionInfo,
    TargetInfo,
    TensorInfo,
    program_name,
)
from .regions import Region
from .verify import VerifyReport

if TYPE_CHECKING:
    from .pipeline import Built

CPU_SCHEDULE = "tvm default loops, untuned"  # so that nobody takes the CPU part for a fast one
_TOOLS = ("lanefit", "torch", "onnx", "onnxscript", "onnxruntime", "apache-tvm", "apache-tvm-ffi", "numpy")


def assemble(
    name: str,
    built: Built,
    real: ModelProto | None,
    host: bytes,
    report: VerifyReport,
    verdict: Judgement | None,
    preprocessing: Preprocessing | None,
    provenance: dict[str, str],
) -> Package:
    """The package of a verified export."""
    imported = built.imported
    files = {INT8_MODEL: model_bytes(imported.model), HOST: host}
    files[PLACEMENT] = (canonical_json(placement_table(built)) + "\n").encode()
    files |= {program_name(i): encode(item.program) for i, item in enumerate(built.compiled)}
    if real is not None:
        files[MODEL] = model_bytes(real)
    inputs, outputs = tensor_infos(imported.model)
    manifest = Manifest(
        name=name,
        inputs=inputs,
        outputs=outputs,
        regions=tuple(_region_info(region) for region in imported.regions),
        target=TargetInfo(name=built.spec.name, digest=built.spec.digest()),
        host=host_target().as_dict(),
        preprocessing=preprocessing,
        figures=figures(built),
        verdict=None if verdict is None else verdict.as_dict(),
        verification=report.as_dict(),
        toolchain=versions(_TOOLS),
        provenance=provenance,
    )
    return Package(manifest, files)


def figures(built: Built) -> dict[str, float]:
    """Totals of the network on the engine; `cpu_operators` does not count quantise, dequantise and views."""
    on_cpu = [p for p in built.placements if p.where == "cpu" and p.rule not in ("border", "view")]
    return {
        "latency_us": built.latency_us,
        "cycles": built.cycles,
        "sram_bytes": built.sram_bytes,
        "weight_bytes": built.weight_bytes,
        "dram_bytes": built.dram_bytes,
        "copied_bytes": built.copied_bytes,
        "free_moves": built.free_moves,
        "macs": built.macs,
        "engine_regions": len(built.compiled),
        "cpu_operators": len(on_cpu),
    }


def placement_table(built: Built) -> dict[str, list[dict[str, Any]]]:
    """`operators`: where each ONNX operator runs, why, and on the CPU how; `subgraphs`: cycles and bytes;
    `sram`: the memory plan, every tensor and buffer with its place and, from the begin of its region, its time."""
    subgraphs: list[dict[str, Any]] = []
    sram: list[dict[str, Any]] = []
    home: dict[str, tuple[int, str]] = {}
    for region, compiled in zip(built.imported.regions, built.compiled, strict=True):
        sources = {node.name: node.source for node in (*region.graph.nodes, *compiled.graph.nodes)}
        sram += [{"region": region.index, **span.as_dict()} for span in spans(compiled)]
        for item in compiled.report:
            subgraphs.append({"region": region.index, **asdict(item)})
            home.update((s, (region.index, item.label)) for n in item.nodes for s in sources[n])
    operators = []
    for placement in built.placements:
        region_index, label = home.get(placement.node, (None, None))
        schedule = CPU_SCHEDULE if placement.where == "cpu" else None
        operators.append({**placement.as_dict(), "region": region_index, "subgraph": label, "schedule": schedule})
    return {"operators": operators, "subgraphs": subgraphs, "sram": sram}


def tensor_infos(model: ModelProto) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """Inputs and outputs of the model, with the scale of the quantise or dequantise operator next to them."""
    index = GraphIndex(model)
    inputs = []
    for name in index.inputs:
        readers = [node for node in index.consumers[name] if node.op_type in (QUANTISE, DEQUANTISE)]
        inputs.append(_info(index, name, index.params(readers[0]) if len(readers) == 1 else None))
    outputs = []
    for name in index.outputs:
        node = index.producer.get(name)
        quantised = node is not None and node.op_type in (QUANTISE, DEQUANTISE)
        outputs.append(_info(index, name, index.params(node) if node is not None and quantised else None))
    return tuple(inputs), tuple(outputs)


def _region_info(region: Region) -> RegionInfo:
    return RegionInfo(program=program_name(region.index), inputs=region.inputs, outputs=region.outputs)


def _info(index: GraphIndex, name: str, params: QuantParams | None) -> TensorInfo:
    dtype = str(index.dtype(name))
    if params is None or not params.per_tensor:
        return TensorInfo(name=name, shape=index.shape(name), dtype=dtype)
    quantisation = params.as_tensor()
    return TensorInfo(
        name=name, shape=index.shape(name), dtype=dtype, scale=quantisation.scale, zero_point=quantisation.zero_point
    )
