"""From a resolved MODEL to its profile: which target, which int8 model, which way of compiling."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ..common.errors import ConfigError, PackageError
from ..common.optimise import Optimise
from .model_argument import Model, ModelKind
from .output import Output

if TYPE_CHECKING:
    from onnx import ModelProto

    from ..export.package import Package
    from ..export.precision import Precision
    from ..export.profiling import Profile
    from ..targets.spec import EngineSpec

Shape = tuple[int, ...]


def target_of(model: Model, target: str) -> EngineSpec:
    """The engine called `target`; without a name, the one that a package or a search was made for."""
    from ..targets.spec import load_spec

    if target or model.target:
        return load_spec(target or model.target)
    if model.kind is ModelKind.PACKAGE:
        return package_target(read_package_of(model))
    raise ConfigError("no target given", where="--target", hint="see `lanefit list targets`, or write a TOML file")


def profile_of(
    output: Output,
    model: Model,
    spec: EngineSpec,
    *,
    input_shape: Shape | None,
    sram_limit_bytes: int | None,
    optimise: Optimise = Optimise.LATENCY,
    precision: Precision | None = None,
) -> Profile:
    """Compiles the model for `spec` and times it. The values of weights and scales do not influence either."""
    from ..export.compiler import compile_graph
    from ..export.pipeline import build
    from ..export.precision import INT8, with_precision
    from ..export.profiling import Profile

    chosen = precision or INT8
    compile_with = partial(compile_graph, sram_limit_bytes=sram_limit_bytes, optimise=optimise)
    if model.kind is ModelKind.ARCHITECTURE:
        from ..export.blank import with_zero_weights
        from ..nas.bridge import to_graph

        plain = with_zero_weights(to_graph(model.layers()))
        chosen.check_patterns(plain.nodes)
        graph = with_precision(plain, chosen)
        return Profile(spec, (compile_with(graph, spec),))
    built = build(_int8(output, model, input_shape), spec, compile_with=compile_with, precision=chosen)
    return Profile(spec, built.compiled, built.placements)


def read_package_of(model: Model) -> Package:
    from ..export.package import read_package

    assert model.path is not None
    return read_package(model.path)


def package_target(package: Package) -> EngineSpec:
    """The engine that the programs of a package carry; without programs, the preset of the manifest."""
    from ..targets.spec import load_spec

    programs = package.programs()
    if programs:
        return programs[0].spec
    spec = load_spec(package.manifest.target.name)
    if spec.digest() != package.manifest.target.digest:
        raise PackageError(f"the package is for another {spec.name} than this one", hint="give --target FILE.toml")
    return spec


def _int8(output: Output, model: Model, input_shape: Shape | None) -> ModelProto:
    from ..export.onnx_model import load_model, parse_model
    from ..export.package import INT8_MODEL
    from ..export.pipeline import quantised
    from ..export.quantise import is_quantised, random_calibration

    assert model.path is not None
    if model.kind is ModelKind.PACKAGE:
        return parse_model(read_package_of(model).files[INT8_MODEL], where=f"{model.path}:{INT8_MODEL}")
    source = load_model(model.path)
    if is_quantised(source):
        return quantised(source, None, input_shape).int8
    output.warn(
        f"{model.path.name} is a float model: quantised with noise for this profile only, so its scales are "
        "placeholders; latency and memory do not depend on them"
    )
    from ..export.onnx_export import simplify
    from ..export.onnx_model import GraphIndex

    simple = simplify(source, input_shape)
    index = GraphIndex(simple)
    return quantised(simple, random_calibration(index.shape(index.inputs[0]))).int8
