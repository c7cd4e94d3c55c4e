"""The emulated engine, and so every operator's integer meaning, is that of TOSA's own reference model."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
from export_examples import EveryOperator, int8_model

from lanefit.common.errors import ToolchainError, UnsupportedError
from lanefit.export import equality, tosa
from lanefit.export.compiler import compile_graph
from lanefit.export.equality import GRAPH, KINDS, Case, compare, random_case, suspects
from lanefit.export.graph import ConvConstants, Graph
from lanefit.export.importer import import_model
from lanefit.export.movement import expand
from lanefit.export.precision import Precision, with_precision
from lanefit.export.random_graphs import GraphBuilder, random_inputs
from lanefit.export.random_operators import BEYOND_TOSA, random_operator
from lanefit.export.reference import run_graph, to_host, to_map
from lanefit.export.tosa import has_tosa_form, run_tosa, to_tosa
from lanefit.kernels.ops import Conv2d, Window
from lanefit.targets.emulator import Emulator
from lanefit.targets.spec import load_spec, preset_names

pytest.importorskip("tosa_reference_model", reason="tosa-tools is not installed")
PRESETS = [load_spec(name) for name in preset_names()]
CASES = 500


def _cases(kind: str) -> int:
    """Half of all cases are graphs, the others are spread over the operators."""
    return CASES // 2 if kind == GRAPH else -(-CASES // 2 // (len(KINDS) - 1))


def _case(kind: str, number: int) -> Case:
    return random_case(np.random.default_rng([KINDS.index(kind), number]), kind, PRESETS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_engine_equals_the_tosa_reference_model(kind: str) -> None:
    for number in range(_cases(kind)):
        case = _case(kind, number)
        found = compare(case, seed=number)
        assert found.elements > 0
        assert found.beyond_tosa == (kind in BEYOND_TOSA)
        assert found.different == 0, (
            f"case {number} on {case.program.spec.name}: {case.operators}, suspects {suspects(case)}"
        )
        assert found.agrees, f"case {number}: {found.steps} steps from ONNX Runtime, {found.tolerated} are allowed"


def test_a_network_from_onnx_has_the_bits_of_the_tosa_reference_model() -> None:
    (region,) = import_model(int8_model(EveryOperator)).regions
    emulator = Emulator(compile_graph(region.graph, load_spec("ne-64")).program)
    inputs = random_inputs(np.random.default_rng(0), region.graph, 4)
    tensors = region.graph.tensors
    ours = emulator.run({name: to_host(value, tensors[name]) for name, value in inputs.items()})
    for name, expected in run_tosa(region.graph, inputs).items():
        np.testing.assert_array_equal(to_map(ours[name], tensors[name]), expected)


def _with_changed_bias(case: Case) -> Case:
    """The same program beside a graph whose first convolution has another bias."""
    name = next(node.name for node in case.graph.nodes if isinstance(node.op, Conv2d))
    old = case.graph.constants[name]
    assert isinstance(old, ConvConstants)
    constants = {**case.graph.constants, name: replace(old, bias=old.bias + np.int32(200_000))}
    return replace(case, graph=replace(case.graph, constants=constants))


@pytest.mark.parametrize("kind", ["conv2d", "depthwise", "linear"])
def test_a_wrong_program_is_seen_and_all_its_operators_are_suspect(kind: str) -> None:
    case = _with_changed_bias(_case(kind, 1))
    assert compare(case).different > 0
    assert suspects(case) == case.operators


def test_a_wrong_integer_meaning_is_blamed_on_its_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    case = next(c for c in (_case(GRAPH, n) for n in range(100)) if "Requantise" in c.operators[1:])

    def altered(graph: Graph, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        wrong = {node.output for node in graph.nodes if equality.operator_name(node) == "Requantise"}
        return {n: v ^ 1 if n in wrong else v for n, v in run_graph(graph, inputs).items()}

    monkeypatch.setattr(equality, "run_graph", altered)
    assert suspects(case) == ("Requantise",)


def _convolution() -> Graph:
    build = GraphBuilder(np.random.default_rng(0))
    source = build.tensor("input", (5, 5, 3), 0.05)
    return build.graph((build.add_node(Conv2d((5, 5, 3), (3, 3, 4), Window(3, 3)), source),))


def test_the_file_keeps_the_names_of_inputs_and_outputs() -> None:
    graph = _convolution()
    blob = to_tosa(graph)
    assert blob[4:8] == b"TOSA"
    for name in (*graph.inputs, *graph.outputs):
        assert name.encode() in blob


def test_equal_graphs_make_equal_files() -> None:
    assert to_tosa(_convolution(), batch=3) == to_tosa(_convolution(), batch=3)


def test_a_graph_without_weights_is_refused_by_node() -> None:
    graph = replace(_convolution(), constants={})
    with pytest.raises(UnsupportedError, match="conv2d0"):
        to_tosa(graph)


def test_an_operator_that_tosa_lacks_is_refused_with_those_it_has() -> None:
    class Mystery:
        macs, dtype = 0, "int8"

    graph = _convolution()
    node = replace(graph.nodes[0], op=Mystery())  # pyright: ignore[reportArgumentType]
    with pytest.raises(UnsupportedError, match=r"Mystery has no TOSA form[\s\S]*Conv2d"):
        to_tosa(replace(graph, nodes=(node,)))


def test_bf16_has_no_tosa_form() -> None:
    graph = with_precision(_convolution(), Precision("bf16"))
    assert not has_tosa_form(graph)
    with pytest.raises(UnsupportedError, match=r"bf16 maps have no TOSA form[\s\S]*order of its sums"):
        to_tosa(graph)


def test_reports_name_the_variant_and_the_element_types_of_an_operator() -> None:
    graph = with_precision(random_operator(np.random.default_rng(0), "depthwise"), Precision("int8x16"))
    names = [equality.operator_name(node) for node in graph.nodes]
    assert names == ["Requantise int8 int16", "Conv2d depthwise int16", "Requantise int16 int8"]


def test_a_graph_that_was_expanded_for_planning_is_refused() -> None:
    graph = random_operator(np.random.default_rng(0), "split")
    assert has_tosa_form(graph)
    expanded = expand(graph)
    assert not has_tosa_form(expanded)
    with pytest.raises(UnsupportedError, match="before it is planned"):
        to_tosa(expanded)


def test_a_rescale_beyond_int32_is_reported_in_the_words_of_the_model(capfd: pytest.CaptureFixture[str]) -> None:
    graph = _convolution()
    name = graph.nodes[0].name
    old = graph.constants[name]
    assert isinstance(old, ConvConstants)
    large = ConvConstants(old.weights, np.full_like(old.bias, 2**30), np.full_like(old.scales, 1e4))
    inputs = {"input": np.zeros((1, 5, 5, 3), np.int8)}
    with pytest.raises(ToolchainError, match="TOSA_UNPREDICTABLE"):
        run_tosa(replace(graph, constants={name: large}), inputs)
    assert capfd.readouterr() == ("", "")


def test_a_graph_that_the_model_does_not_take_is_a_fault_of_the_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    class Strict:
        @staticmethod
        def run(*_: object, **__: object) -> None:
            raise ValueError("Invalid TOSA graph")

    monkeypatch.setattr(tosa, "tosa_package", lambda _: Strict)
    with pytest.raises(ToolchainError, match="refuses the graph: Invalid TOSA graph"):
        run_tosa(_convolution(), {"input": np.zeros((1, 5, 5, 3), np.int8)})


def test_a_missing_tool_is_told_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[[str], ModuleType] = importlib.import_module

    def absent(name: str) -> ModuleType:
        if name.startswith("tosa"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(ToolchainError, match="pip install --no-deps tosa-tools"):
        to_tosa(_convolution())
