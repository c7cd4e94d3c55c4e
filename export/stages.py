"""The stages that verification compares, as callables on one set of samples: from torch module to host library."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from ..targets.program import Program
from .engines import emulator_engine, reference_engine
from .host import Arrays, Engine, HostModule, host_names
from .importer import Imported
from .onnx_model import DEQUANTISE, GraphIndex
from .split_run import SplitModel, run_samples, session
from .verify import Outputs

if TYPE_CHECKING:
    from torch import nn

Stage = tuple[str, Callable[[], Outputs]]


def source_stages(module: nn.Module | None, model: ModelProto | None, inputs: Arrays) -> list[Stage]:
    """What there is before quantisation: the module in double and single precision, and the float ONNX model."""
    stages: list[Stage] = []
    if model is not None:
        names = [v.name for v in model.graph.output]
        if module is not None:
            stages.append(("float64", lambda: run_module(module, names, inputs, np.float64)))
            stages.append(("float32", lambda: run_module(module, names, inputs, np.float32)))
        stages.append(("onnx", lambda: run_samples(session(model), inputs)))
    return stages


def device_stages(imported: Imported, programs: Sequence[Program], host: bytes | None, inputs: Arrays) -> list[Stage]:
    """The quantised model in ONNX Runtime, in integers, on the emulated device and in the host module."""
    split = SplitModel(imported.host, GraphIndex(imported.model).types)
    device = emulator_engine(programs)
    stages: list[Stage] = [
        ("int8", lambda: run_samples(session(imported.model), inputs)),
        ("reference", lambda: split(reference_engine(imported.regions), inputs)),
        ("device", lambda: split(device, inputs)),
    ]
    if host is not None:
        stages.append(("host", lambda: _run_library(host, imported, device, inputs)))
    return stages


def run_module(module: nn.Module, names: Sequence[str], inputs: Arrays, dtype: type[np.floating]) -> dict[str, NDArray]:
    """Outputs of a copy of `module` in evaluation mode, one sample at a time; the module itself stays as it is."""
    import torch

    still = copy.deepcopy(module).cpu().eval().to(torch.float64 if dtype is np.float64 else torch.float32)
    rows: list[list[NDArray]] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # single samples are too small to share: waiting threads cost far more than they help
    try:
        with torch.no_grad():
            for sample in next(iter(inputs.values())):
                result = still(torch.from_numpy(sample[None].astype(dtype)))
                outputs = [result] if isinstance(result, torch.Tensor) else list(result)
                rows.append([item.numpy() for item in outputs])
    finally:
        torch.set_num_threads(threads)
    return {name: np.concatenate([row[i] for row in rows]) for i, name in enumerate(names)}


def output_steps(model: ModelProto) -> dict[str, float]:
    """Scale of each model output that is a dequantised int8 tensor."""
    index = GraphIndex(model)
    steps = {}
    for name in index.outputs:
        node = index.producer.get(name)
        params = index.params(node) if node is not None and node.op_type == DEQUANTISE else None
        if params is not None and params.per_tensor:
            steps[name] = params.as_tensor().scale
    return steps


def _run_library(library: bytes, imported: Imported, engine: Engine, inputs: Arrays) -> Outputs:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "host.so"
        path.write_bytes(library)
        return HostModule(path, engine, host_names(imported.host, imported.regions))(inputs)
