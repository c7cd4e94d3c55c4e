"""The whole way: module or ONNX file → int8 → regions → programs → host library → package, verified on the way out."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from ..common.budget import Budget
from ..common.errors import ModelError, UnsupportedError
from ..targets.spec import EngineSpec
from .compiler import Compiled, compile_graph
from .contents import assemble
from .cuboid_graph import with_best_leaves
from .engines import emulator_engine
from .graph import Graph
from .host import Arrays, build_host
from .importer import Imported, import_model
from .judgement import Judgement, judge
from .linear_form import linear_form
from .movement import expansions
from .normalise import normalise
from .onnx_export import simplify, to_onnx
from .onnx_model import GraphIndex, check_model, load_model
from .package import Package, Preprocessing
from .placement import Placement
from .precision import INT8, Precision, with_precision
from .quantise import Calibration, calibration_samples, is_quantised, quantise
from .real_weights import real_weights
from .regions import Region
from .split_run import SplitModel
from .stages import device_stages, output_steps, source_stages
from .verify import TOLERANCES, WIDE_TOLERANCES, VerifyReport, verify

if TYPE_CHECKING:
    from torch import nn

Source: TypeAlias = "nn.Module | ModelProto | Path"
Compile: TypeAlias = Callable[[Graph, EngineSpec], Compiled]
OnStage: TypeAlias = Callable[[str], None]
VERIFY_SAMPLES = 16


def _unwatched(stage: str) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, slots=True)
class Models:
    """A network on its way: the module if there was one, the float ONNX model if there was one, and the int8 one."""

    module: nn.Module | None
    real: ModelProto | None
    int8: ModelProto
    samples: tuple[NDArray[np.float32], ...]


@dataclass(frozen=True, slots=True)
class Built:
    """A quantised network compiled for an engine, without package and verification: enough to profile."""

    spec: EngineSpec
    imported: Imported
    compiled: tuple[Compiled, ...]

    @property
    def placements(self) -> tuple[Placement, ...]:
        return self.imported.placements

    @property
    def cycles(self) -> float:
        """Cycles of all regions, which run one after the other; CPU operators are not in it."""
        return sum(item.timing.cycles for item in self.compiled)

    @property
    def latency_us(self) -> float:
        """Time on the engine; CPU operators are not in it."""
        return sum(item.latency_us for item in self.compiled)

    @property
    def sram_bytes(self) -> int:
        return max((item.sram_bytes for item in self.compiled), default=0)

    @property
    def weight_bytes(self) -> int:
        return sum(item.weight_bytes for item in self.compiled)

    @property
    def dram_bytes(self) -> int:
        return sum(item.dram_bytes for item in self.compiled)

    @property
    def copied_bytes(self) -> int:
        """Bytes that the engine moves only to lie elsewhere in SRAM or DRAM."""
        return sum(item.copied_bytes for item in self.compiled)

    @property
    def free_moves(self) -> int:
        """Maps that are written or read as parts of others, without a copy."""
        return sum(item.free_moves for item in self.compiled)

    @property
    def macs(self) -> int:
        return sum(region.graph.macs for region in self.imported.regions)

    def check(self, budget: Budget) -> Judgement:
        """See `judgement.judge`."""
        found = {"latency_us": self.latency_us, "sram_bytes": self.sram_bytes, "weight_bytes": self.weight_bytes}
        return judge(budget, self.placements, **found)

    def run_device(self, inputs: Arrays) -> dict[str, NDArray]:
        """Outputs for samples along the leading axis: regions on the emulator, the rest in ONNX Runtime."""
        split = SplitModel(self.imported.host, GraphIndex(self.imported.model).types)
        return split(emulator_engine([item.program for item in self.compiled]), inputs)


@dataclass(frozen=True, slots=True)
class ExportResult:
    package: Package
    verify: VerifyReport
    built: Built

    @property
    def placements(self) -> tuple[Placement, ...]:
        return self.built.placements

    @property
    def latency_us(self) -> float:
        return self.built.latency_us


def export_model(
    source: Source,
    spec: EngineSpec,
    calibration: Calibration | None = None,
    *,
    name: str = "",
    input_shape: tuple[int, ...] | None = None,
    budget: Budget | None = None,
    preprocessing: Preprocessing | None = None,
    provenance: dict[str, str] | None = None,
    compile_with: Compile = compile_graph,
    precision: Precision = INT8,
    on_stage: OnStage = _unwatched,
) -> ExportResult:
    """Exports a network and verifies every stage on up to 16 calibration samples; `on_stage` hears what begins.

    `precision` chooses int8, int8x16 or bf16 for each operator on the engine; its borders to the CPU stay int8.

    Raises `ModelError` for models that cannot be read, quantised or imported, `ToolchainError` when the CPU part
    cannot be built, and `VerificationError` when a stage misses its tolerance: an unverified package is never returned.
    """
    on_stage("quantise")
    models = quantised(source, calibration, input_shape)
    on_stage(f"compile for {spec.name}")
    built = build(models.int8, spec, compile_with=compile_with, precision=precision, real=models.real)
    on_stage("build the host module")
    host = build_host(built.imported.host, built.imported.regions)
    on_stage("verify")
    inputs = _samples(models, built.imported.model)
    stages = source_stages(models.module, models.real, inputs)
    stages += device_stages(built.imported, [item.program for item in built.compiled], host, inputs)
    tolerances = TOLERANCES if precision.is_plain else WIDE_TOLERANCES
    report = verify(stages, output_steps(built.imported.model), tolerances=tolerances)
    report.check()
    verdict = built.check(budget) if budget is not None else None
    label = name or (source.stem if isinstance(source, Path) else type(source).__name__)
    made = {**(provenance or {}), **({} if precision.is_plain else {"precision": str(precision)})}
    package = assemble(label, built, models.real, host, report, verdict, preprocessing, made)
    return ExportResult(package, report, built)


def quantised(
    source: Source, calibration: Calibration | None = None, input_shape: tuple[int, ...] | None = None
) -> Models:
    """The int8 QDQ model of `source`: a module or float model is quantised, a quantised one is taken as it is."""
    given = list(calibration) if calibration is not None else []
    if isinstance(source, ModelProto | Path):
        model = load_model(source) if isinstance(source, Path) else source
        check_model(model, where=str(source) if isinstance(source, Path) else model.graph.name)
        if is_quantised(model):
            return Models(None, None, normalise(model, input_shape), tuple(given))
        return _quantised(None, simplify(model, input_shape), given)
    if input_shape is None and not given:
        raise ModelError("neither input shape nor calibration data", hint="give calibration data for the module")
    shape = input_shape or (1, *given[0].shape[-3:])
    return _quantised(source, to_onnx(source, shape), given)


def build(
    int8: ModelProto,
    spec: EngineSpec,
    *,
    compile_with: Compile = compile_graph,
    precision: Precision = INT8,
    real: ModelProto | None = None,
) -> Built:
    """Imports and compiles a quantised model; operators that have no tiling on this engine move to the CPU.

    bf16 operators take their weights from `real`, the model before quantisation, where there is one.
    """
    demoted: dict[str, str] = {}
    while True:
        imported = _typed(import_model(int8, demoted=demoted), precision, real)
        try:
            imported = _leafed(imported, spec)
            return Built(spec, imported, tuple(compile_with(region.graph, spec) for region in imported.regions))
        except UnsupportedError as error:
            refused = _blamed(error.where, imported)
            if not refused:
                raise
            demoted |= dict.fromkeys(refused, error.what)


def _leafed(imported: Imported, spec: EngineSpec) -> Imported:
    """The regions with the leaves of global vectors that suit the engine: they decide what is computed."""
    regions = tuple(replace(region, graph=with_best_leaves(region.graph, spec)) for region in imported.regions)
    return replace(imported, regions=regions)


def _typed(imported: Imported, precision: Precision, real: ModelProto | None) -> Imported:
    """The regions with the chosen precision of each operator; a pattern that fits no operator is refused."""
    if precision.is_plain:
        return imported
    precision.check_patterns(node for region in imported.regions for node in region.graph.nodes)
    regions: list[Region] = []
    for region in imported.regions:
        weights = {} if real is None else real_weights(real, region.graph)
        regions.append(replace(region, graph=with_precision(region.graph, precision, weights)))
    return replace(imported, regions=tuple(regions))


def _quantised(module: nn.Module | None, real: ModelProto, given: Sequence[NDArray]) -> Models:
    if not given:
        hint = "give calibration data: some tens of representative samples"
        raise ModelError("a float model must be quantised first", where=real.graph.name, hint=hint)
    real = linear_form(real)
    index = GraphIndex(real)
    samples = calibration_samples(given, index.shape(index.inputs[0]))
    return Models(module, real, quantise(real, samples), tuple(samples[:VERIFY_SAMPLES]))


def _blamed(where: str, imported: Imported) -> list[str]:
    """ONNX operators behind the nodes that a compiler error names as "node 'a+b'", the name in Python's quotes."""
    graphs = [graph for region in imported.regions for graph in (region.graph, *_expanded(region.graph))]
    sources = {node.name: node.source[0] for graph in graphs for node in graph.nodes}
    if not where.startswith("node "):
        return []
    try:
        label = str(ast.literal_eval(where.removeprefix("node ")))
    except (SyntaxError, ValueError):
        return []
    return sorted({sources[name] for name in _names_in(label, sources)})


def _expanded(graph: Graph) -> list[Graph]:
    """The forms in which the compiler may have met the graph; none if it is what cannot be expanded."""
    try:
        return list(expansions(graph))
    except UnsupportedError:
        return []


def _names_in(label: str, known: Collection[str]) -> set[str]:
    """The `known` names that `label` joins with "+", which may be part of a name too: the longest one counts."""
    parts = label.split("+")
    found: set[str] = set()
    start = 0
    while start < len(parts):
        ends = (end for end in range(len(parts), start, -1) if "+".join(parts[start:end]) in known)
        end = next(ends, None)
        if end is not None:
            found.add("+".join(parts[start:end]))
        start = end or start + 1
    return found


def _samples(models: Models, model: ModelProto) -> dict[str, NDArray]:
    """Verification inputs: calibration samples, or noise of the right type where there are none."""
    index = GraphIndex(model)
    if models.samples and len(index.inputs) == 1:
        single = calibration_samples(models.samples, index.shape(index.inputs[0]))
        return {index.inputs[0]: np.concatenate(single[:VERIFY_SAMPLES])}
    rng = np.random.default_rng(0)
    return {name: _noise(rng, index.dtype(name), (4, *index.shape(name)[1:])) for name in index.inputs}


def _noise(rng: np.random.Generator, dtype: np.dtype | None, shape: tuple[int, ...]) -> NDArray:
    if dtype is not None and np.issubdtype(dtype, np.integer):
        return rng.integers(0, 127, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype or np.float32)
