"""Weights without their zeros: fewer bytes and cycles, the same bits, and never more than plain records."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanefit.common.errors import PackageError, ProgramFault
from lanefit.export.blank import with_zero_weights
from lanefit.export.compiler import compile_graph
from lanefit.export.graph import ConvConstants, Graph
from lanefit.export.packing import packed_weights
from lanefit.export.plan import plan
from lanefit.export.random_graphs import GraphBuilder, random_inputs
from lanefit.export.reference import run_graph
from lanefit.kernels.ops import Conv2d, Window
from lanefit.targets.emulator import Emulator
from lanefit.targets.encoding import decode, encode
from lanefit.targets.execute_dma import pack, unpack
from lanefit.targets.isa import Opcode, Unit
from lanefit.targets.spec import load_spec
from lanefit.targets.timing import simulate

DECODER = replace(load_spec("ne-64"), name="ne-64-decoder", weight_decoder=True)


def _network(kept: float) -> Graph:
    rng = np.random.default_rng(7)
    build = GraphBuilder(rng)
    current = build.tensor("input", (6, 6, 24), 0.05)
    for channels in (40, 64):
        shape = build.tensors[current].shape
        current = build.add_node(Conv2d(shape, (6, 6, channels), Window(3, 3, 1, 1, 1, 1)), current)
    graph = build.graph((current,))
    constants = dict(graph.constants)
    for name, held in graph.constants.items():
        assert isinstance(held, ConvConstants)
        constants[name] = replace(held, weights=held.weights * (rng.random(held.weights.shape) < kept))
    return replace(graph, constants=constants)


@given(st.binary(min_size=1, max_size=200), st.integers(0, 9))
def test_unpacking_is_the_inverse_of_packing(data: bytes, zeros: int) -> None:
    values = np.frombuffer(data, np.uint8) * (np.arange(len(data)) % 10 >= zeros)
    padded = np.concatenate([pack(values), np.zeros(5, np.uint8)])
    np.testing.assert_array_equal(unpack(padded, len(values)).view(np.uint8), values)


def test_a_mask_that_asks_for_more_than_there_is_stops_the_program() -> None:
    with pytest.raises(ProgramFault, match="the mask names 8 of 8 bytes"):
        unpack(np.array([255, 1, 2], np.uint8), 8)
    with pytest.raises(ProgramFault, match="the mask names"):
        unpack(np.array([0], np.uint8), 64)


def test_sparse_weights_take_fewer_bytes_and_cycles_and_give_the_same_bits() -> None:
    graph = _network(0.15)
    plain, packed = compile_graph(graph, load_spec("ne-64")), compile_graph(graph, DECODER)
    assert any(i.opcode is Opcode.LOAD_SPARSE for i in packed.program.queues[Unit.DMA_IN])
    assert len(packed.program.constants) < 0.5 * len(plain.program.constants)
    assert packed.timing.cycles < plain.timing.cycles
    assert packed.timing.dram_read_bytes < plain.timing.dram_read_bytes
    assert packed.lower_bound_cycles <= packed.timing.cycles
    inputs = random_inputs(np.random.default_rng(1), graph, 2)
    host = {"input": inputs["input"].transpose(0, 3, 1, 2)}
    found = Emulator(decode(encode(packed.program)), order="random").run(host)
    expected = run_graph(graph, inputs)[graph.outputs[0]].transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(found[graph.outputs[0]], expected)


def test_dense_and_blank_weights_stay_as_they_are() -> None:
    dense = _network(2.0)
    assert not packed_weights(dense, plan(dense, DECODER))
    blank = with_zero_weights(replace(dense, constants={}))
    assert not packed_weights(blank, plan(blank, DECODER))


def test_an_engine_without_the_decoder_refuses_the_instruction() -> None:
    program = replace(compile_graph(_network(0.15), DECODER).program, spec=load_spec("ne-64"))
    with pytest.raises(PackageError, match="LOAD_SPARSE needs a weight decoder"):
        simulate(program)
