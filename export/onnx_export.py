"""Torch module → float ONNX: static shapes, batch normalisation folded, names from the module, stable bytes."""

from __future__ import annotations

import ast
import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

from onnx import ModelProto, NodeProto, version_converter

from ..common.errors import ModelError
from .onnx_model import OPSET, check_model, copy_of, unique_names, with_static_shapes

if TYPE_CHECKING:
    from torch import nn

INPUT, OUTPUT = "input", "output"
_SCOPES = "pkg.torch.onnx.name_scopes"


def to_onnx(module: nn.Module, input_shape: tuple[int, ...]) -> ModelProto:
    """Float ONNX model of `module` in evaluation mode for one input of `input_shape`, batch 1 included.

    Raises `ModelError` when torch cannot trace the module.
    """
    import torch

    still = copy.deepcopy(module).cpu().eval()
    example = torch.zeros(input_shape)
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                still, (example,), dynamo=True, opset_version=OPSET,
                input_names=[INPUT], output_names=[OUTPUT], verbose=False,
            )  # fmt: skip
    except (torch.onnx.OnnxExporterError, RuntimeError, TypeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        hint = "avoid control flow that depends on tensor values"
        raise ModelError(f"torch cannot export the module: {reason}", where=type(module).__name__, hint=hint) from error
    if program is None:
        raise ModelError("torch exported nothing", where=type(module).__name__)
    model = _named_after_modules(program.model_proto)
    return with_static_shapes(_anonymous(model))


def simplify(model: ModelProto, input_shape: tuple[int, ...] | None = None) -> ModelProto:
    """A foreign float model at our opset with constants folded and batch normalisation fused, shapes static."""
    import onnxscript.optimizer
    import onnxscript.rewriter

    model = with_static_shapes(_at_opset(model), input_shape)
    try:
        with quiet():
            optimised = onnxscript.rewriter.rewrite(onnxscript.optimizer.optimize(model))
    except Exception as error:  # the passes raise classes that share no base
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"the model cannot be simplified: {reason}", hint="is the file damaged?") from error
    named = _anonymous(copy_of(optimised))
    for node, name in zip(named.graph.node, unique_names(n.name or n.op_type for n in named.graph.node), strict=True):
        node.name = name
    check_model(named, where="after simplification")
    return with_static_shapes(named)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps exporters from writing to stdout, warning or logging: results alone belong there."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _at_opset(model: ModelProto) -> ModelProto:
    versions = {entry.domain: entry.version for entry in model.opset_import}
    if versions.get("", OPSET) >= OPSET:
        return model
    try:
        return version_converter.convert_version(model, OPSET)
    except (RuntimeError, ValueError) as error:
        text = str(error).strip().splitlines()[0]
        hint = f"export the model with opset {OPSET} or later"
        raise ModelError(f"opset {versions['']} cannot be raised to {OPSET}: {text}", hint=hint) from error


def _anonymous(model: ModelProto) -> ModelProto:
    """Without doc strings and metadata: they hold paths and stack traces of the exporting machine."""
    graph = model.graph
    model.doc_string = graph.doc_string = ""
    graph.name = "main"
    for item in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        del item.metadata_props[:]
        item.doc_string = ""
    initialisers = sorted(graph.initializer, key=lambda t: t.name)
    del graph.initializer[:], model.functions[:]
    graph.initializer.extend(initialisers)
    return model


def _named_after_modules(model: ModelProto) -> ModelProto:
    """Nodes and tensors called after the module that made them, such as `stages.0.expand` and `stages.0.expand.out`."""
    constants = {t.name for t in model.graph.initializer}
    names = unique_names(_module_name(node, constants) for node in model.graph.node)
    fixed = {v.name for v in (*model.graph.input, *model.graph.output)} | constants
    renamed: dict[str, str] = {}
    for node, name in zip(model.graph.node, names, strict=True):
        node.name = name
        for number, output in enumerate(node.output):
            if output and output not in fixed:
                renamed[output] = f"{name}.out{number or ''}"
    for node in model.graph.node:
        node.input[:] = [renamed.get(n, n) for n in node.input]
        node.output[:] = [renamed.get(n, n) for n in node.output]
    del model.graph.value_info[:]
    return model


def _module_name(node: NodeProto, constants: set[str]) -> str:
    for name in node.input:
        if name in constants and name.endswith(".weight"):
            return name.removesuffix(".weight")
    scopes = next((p.value for p in node.metadata_props if p.key == _SCOPES), "[]")
    path = [s for s in ast.literal_eval(scopes)[:-1] if s]
    return f"{path[-1]}.{node.op_type}" if path else node.op_type
