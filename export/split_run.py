"""Runs a host model without TVM: CPU parts by ONNX Runtime, regions by any engine one hands in.

Verification uses it to put the integer reference and the emulator in the same place of the same network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TypeProto, ValueInfoProto, helper

from ..common.errors import InputError, ToolchainError
from .host import Arrays, Engine
from .onnx_model import GraphIndex, copy_of
from .regions import DOMAIN, region_number


def session(model: ModelProto, *, exact: bool = False) -> ort.InferenceSession:
    """A single-threaded CPU session; `exact` keeps ONNX Runtime from replacing the operators by integer kernels."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if exact:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no public base
        reason = str(error).strip().splitlines()[0]
        raise ToolchainError(f"ONNX Runtime refuses the model: {reason}") from error


def run_samples(runner: ort.InferenceSession, inputs: Arrays) -> dict[str, NDArray]:
    """Outputs for samples along the leading axis, one at a time, since models have batch 1."""
    names = [item.name for item in runner.get_outputs()]
    wanted = [item.name for item in runner.get_inputs()]
    count = sample_count(inputs)
    rows = [runner.run(names, {n: inputs[n][i : i + 1] for n in wanted}) for i in range(count)]
    return {name: np.concatenate([np.asarray(row[k]) for row in rows]) for k, name in enumerate(names)}


def sample_count(inputs: Arrays) -> int:
    counts = {len(array) for array in inputs.values()}
    if len(counts) != 1 or 0 in counts:
        raise InputError(f"inputs hold {sorted(counts)} samples", hint="give equally many, at least one, of each")
    return counts.pop()


@dataclass(frozen=True, slots=True)
class _CpuPart:
    session: ort.InferenceSession

    def run(self, values: Mapping[str, NDArray], _: Engine) -> dict[str, NDArray]:
        return run_samples(self.session, {i.name: values[i.name] for i in self.session.get_inputs()})


@dataclass(frozen=True, slots=True)
class _EnginePart:
    region: int
    inputs: tuple[str, ...]

    def run(self, values: Mapping[str, NDArray], engine: Engine) -> dict[str, NDArray]:
        return dict(engine(self.region, {name: values[name] for name in self.inputs}))


class SplitModel:
    """A host model (see `regions.form_regions`) cut at its regions; `types` holds the inferred type of its tensors."""

    def __init__(self, host: ModelProto, types: Mapping[str, TypeProto.Tensor]) -> None:
        self._inputs = GraphIndex(host).inputs
        self._outputs = [v.name for v in host.graph.output]
        self._parts: list[_CpuPart | _EnginePart] = []
        pending: list[NodeProto] = []
        for node in host.graph.node:
            number = region_number(node)
            if number is None:
                pending.append(node)
                continue
            self._flush(host, pending, types)
            self._parts.append(_EnginePart(number, tuple(node.input)))
            pending = []
        self._flush(host, pending, types)

    def __call__(self, engine: Engine, inputs: Arrays) -> dict[str, NDArray]:
        """All outputs for samples along the leading axis; regions are called once, with all samples."""
        sample_count(inputs)
        values = {name: inputs[name] for name in self._inputs}
        for part in self._parts:
            values.update(part.run(values, engine))
        return {name: values[name] for name in self._outputs}

    def _flush(self, host: ModelProto, nodes: list[NodeProto], types: Mapping[str, TypeProto.Tensor]) -> None:
        if nodes:
            self._parts.append(_CpuPart(session(_extract(host, nodes, types), exact=True)))


def _extract(host: ModelProto, nodes: list[NodeProto], types: Mapping[str, TypeProto.Tensor]) -> ModelProto:
    """The given consecutive CPU operators as a model: it reads what others made, and gives what others read."""
    constants = {t.name: t for t in host.graph.initializer}
    made = [name for node in nodes for name in node.output if name]
    read = dict.fromkeys(name for node in nodes for name in node.input if name)
    inside = {node.name for node in nodes}
    wanted = {v.name for v in host.graph.output}
    wanted |= {name for node in host.graph.node if node.name not in inside for name in node.input}
    part = copy_of(host)
    graph = part.graph
    del graph.node[:], graph.initializer[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(constants[name] for name in read if name in constants)
    graph.input.extend(_value(n, types) for n in read if n not in constants and n not in made)
    graph.output.extend(_value(n, types) for n in made if n in wanted)
    kept = [entry for entry in part.opset_import if entry.domain != DOMAIN]
    del part.opset_import[:]
    part.opset_import.extend(kept)
    return part


def _value(name: str, types: Mapping[str, TypeProto.Tensor]) -> ValueInfoProto:
    shape = [d.dim_value for d in types[name].shape.dim]
    return helper.make_tensor_value_info(name, types[name].elem_type, shape)
