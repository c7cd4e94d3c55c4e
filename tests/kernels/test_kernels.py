"""The kernels in the tree sit the exam that any plug-in kernel sits."""

from dataclasses import replace

import pytest
from kernel_conformance import KernelConformance

from lanefit.common.errors import UnsupportedError
from lanefit.kernels.chain import stages
from lanefit.kernels.function_ops import Mul, Norm, Reduce, Reduction, Resize, Scale, Softmax, Table
from lanefit.kernels.kernel import splits
from lanefit.kernels.ops import Add, Conv2d, MatMul, Pool2d, Requantise, Window
from lanefit.kernels.search import candidates
from lanefit.kernels.subgraph import Kind, Memory, Subgraph
from lanefit.targets.spec import load_spec

SAME3 = Window(3, 3, 1, 1, 1, 1)
SRAM, DRAM, HOST = Memory.SRAM, Memory.DRAM, Memory.HOST
TWICE = Scale(4, 2, -1)
EXPAND = Conv2d((12, 12, 8), (12, 12, 24), Window(1, 1))
DEPTHWISE = Conv2d((12, 12, 24), (12, 12, 24), SAME3, depthwise=True)
PROJECT = Conv2d((12, 12, 24), (12, 12, 8), Window(1, 1))


class TestConvKernel(KernelConformance):
    subgraphs = (
        Subgraph((Conv2d((14, 14, 16), (14, 14, 40), SAME3),), SRAM, SRAM),
        Subgraph((Conv2d((15, 15, 3), (8, 8, 24), Window(3, 3, 2, 2, 1, 1)),), HOST, SRAM),
        Subgraph((Conv2d((14, 14, 24), (14, 14, 24), Window(1, 1)),), DRAM, DRAM, DRAM),
        Subgraph((DEPTHWISE,), DRAM, SRAM),
        Subgraph((Conv2d((1, 1, 200), (1, 1, 100), Window(1, 1)),), SRAM, HOST),
    )


class TestMatMulKernel(KernelConformance):
    subgraphs = (
        Subgraph((MatMul((3, 40, 16), (3, 40, 16), transposed=True),), SRAM, SRAM, SRAM),
        Subgraph((MatMul((4, 33, 40), (4, 40, 16)),), DRAM, HOST, DRAM),
        Subgraph((MatMul((6, 20, 24), (6, 24, 20), dtype="int16"),), DRAM, SRAM, SRAM),
        Subgraph((MatMul((6, 20, 24), (6, 20, 24), transposed=True, dtype="bf16"),), HOST, DRAM, SRAM),
    )


class TestWidePrecisions(KernelConformance):
    subgraphs = (
        Subgraph((Conv2d((14, 14, 16), (14, 14, 40), SAME3, dtype="int16"),), DRAM, SRAM, DRAM),
        Subgraph((Conv2d((14, 14, 24), (14, 14, 24), SAME3, depthwise=True, dtype="bf16"),), HOST, DRAM),
        Subgraph(tuple(replace(conv, dtype="bf16") for conv in (EXPAND, DEPTHWISE, PROJECT)), DRAM, SRAM, SRAM),
        Subgraph((Add((10, 10, 24), "int16"),), DRAM, HOST, SRAM),
        Subgraph((Requantise((10, 10, 24), "bf16", "int8"),), HOST, DRAM),
    )


class TestChainKernel(KernelConformance):
    subgraphs = (
        Subgraph((EXPAND, DEPTHWISE, PROJECT), SRAM, SRAM, SRAM),
        Subgraph((EXPAND, DEPTHWISE, PROJECT), DRAM, HOST, DRAM),
        Subgraph((Conv2d((12, 12, 8), (12, 12, 24), SAME3), PROJECT), HOST, SRAM),
    )


class TestVectorKernel(KernelConformance):
    subgraphs = (
        Subgraph((Add((10, 10, 24)),), SRAM, SRAM, SRAM),
        Subgraph((Add((10, 10, 24)),), DRAM, HOST, SRAM),
        Subgraph((Pool2d((10, 10, 24), (5, 5, 24), Window(2, 2, 2, 2), maximum=True),), DRAM, SRAM),
        Subgraph((Pool2d((7, 7, 64), (1, 1, 64), Window(7, 7), maximum=False),), DRAM, DRAM),
        Subgraph((Requantise((10, 10, 24)),), HOST, DRAM),
    )


class TestVectorFunctions(KernelConformance):
    subgraphs = (
        Subgraph((Table((10, 10, 24)),), SRAM, DRAM),
        Subgraph((Mul((10, 10, 24)),), DRAM, SRAM, HOST),
        Subgraph((Mul((10, 10, 24), gate=True),), DRAM, HOST, DRAM),
        Subgraph((Softmax((1, 1, 100)),), SRAM, HOST),
        Subgraph((Softmax((8, 6, 40)),), DRAM, DRAM),
        Subgraph((Norm((12, 8, 48), 3),), DRAM, SRAM),
        Subgraph((Norm((12, 8, 48), 3, over_map=True),), HOST, DRAM),
        Subgraph((Reduce((10, 10, 24), (10, 10, 1), Reduction.MEAN),), HOST, SRAM),
        Subgraph((Reduce((1, 1, 240), (1, 1, 60), Reduction.MAX),), DRAM, DRAM),
        Subgraph((Resize((7, 6, 24), (14, 12, 24), TWICE, TWICE, bilinear=True),), DRAM, HOST),
        Subgraph((Resize((14, 12, 24), (21, 4, 24), Scale(3, 2), Scale(1, 3), bilinear=False),), HOST, DRAM),
    )


def test_kinds_are_told_apart_by_shape_alone() -> None:
    samples = (TestConvKernel, TestMatMulKernel, TestChainKernel, TestVectorKernel, TestVectorFunctions)
    kinds = [subgraph.kind for sample in samples for subgraph in sample.subgraphs]
    assert {*kinds, Kind.CUBOID_ATTENTION} == set(Kind)  # that one has a room of its own


def test_a_chain_computes_every_row_of_every_map_exactly_once() -> None:
    convs = (
        Conv2d((30, 30, 4), (30, 30, 8), SAME3),
        Conv2d((30, 30, 8), (15, 15, 8), Window(5, 5, 2, 2, 2, 2), depthwise=True),
        Conv2d((15, 15, 8), (15, 15, 4), Window(1, 1)),
    )
    for rows in range(1, 15):
        for stage in stages(convs, rows):
            stripes = -(-15 // rows)
            assert stage.prologue >= 0
            assert stage.prologue + stripes * stage.rows >= stage.conv.output[0]


def test_a_shape_that_no_sram_can_hold_is_refused_with_both_numbers() -> None:
    wide = Subgraph((Conv2d((4, 4000, 64), (4, 4000, 64), SAME3),), DRAM, DRAM)
    with pytest.raises(UnsupportedError, match=r"takes \d+ bytes of SRAM; ne-64 has 131072"):
        candidates(wide, load_spec("ne-64"))


def test_a_chain_must_fit_together() -> None:
    with pytest.raises(UnsupportedError, match="chain breaks"):
        Subgraph((EXPAND, PROJECT, EXPAND, DEPTHWISE, EXPAND), SRAM, SRAM)


def test_splits_run_from_the_whole_to_one_multiple() -> None:
    assert splits(96, 16) == [96, 48, 32, 16]
    assert splits(7) == [7, 4, 3, 2, 1]
    assert splits(100, 16)[0] == 100
