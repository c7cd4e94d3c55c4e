"""Which kernel runs a subgraph, and its tilings ranked by closed-form cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from ..common.errors import UnsupportedError
from ..common.registry import Registry
from ..targets.spec import EngineSpec
from .kernel import Buffer, Estimate, Kernel, Tiling
from .subgraph import VECTOR_KINDS, Kind, Subgraph

kernels: Registry[Kernel] = Registry("kernel")


def _register() -> None:
    from .chain import ChainKernel
    from .conv import ConvKernel
    from .cuboid import CuboidKernel
    from .matmul import MatMulKernel
    from .vector import VectorKernel

    conv, chain, vector = ConvKernel(), ChainKernel(), VectorKernel()
    for kind in (Kind.CONV2D, Kind.DEPTHWISE, Kind.LINEAR):
        kernels.add(kind, conv)
    for kind in (Kind.FUSED_BOTTLENECK, Kind.INVERTED_BOTTLENECK):
        kernels.add(kind, chain)
    kernels.add(Kind.MATMUL, MatMulKernel())
    kernels.add(Kind.CUBOID_ATTENTION, CuboidKernel())
    for kind in VECTOR_KINDS:
        kernels.add(kind, vector)


_register()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A tiling with what it costs: closed-form cycles and SRAM beside the resident tensors."""

    tiling: Tiling
    estimate: Estimate
    buffers: tuple[Buffer, ...]
    workspace_bytes: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "workspace_bytes", sum(buffer.size_bytes for buffer in self.buffers))

    def __hash__(self) -> int:
        return hash(self.tiling)  # estimate and buffers follow from it; caches hash candidates often


@lru_cache(maxsize=20_000)  # each is some ten kilobytes
def candidates(subgraph: Subgraph, spec: EngineSpec) -> tuple[Candidate, ...]:
    """Every legal tiling that some SRAM of this engine could hold, cheapest first; ties favour less memory.

    Raises:
        UnsupportedError: not even the smallest tile fits an empty SRAM.
    """
    kernel = kernels.get(subgraph.kind)
    found = [
        Candidate(tiling, kernel.estimate(subgraph, spec, tiling), kernel.buffers(subgraph, spec, tiling))
        for tiling in kernel.space(subgraph, spec)
    ]
    fitting = [c for c in found if c.workspace_bytes <= spec.sram_bytes]
    if not fitting:
        least = min(c.workspace_bytes for c in found)
        raise UnsupportedError(
            f"the smallest tile of this {subgraph.kind} takes {least} bytes of SRAM; {spec.name} has {spec.sram_bytes}"
        )
    return tuple(sorted(fitting, key=lambda c: (c.estimate.cycles, c.workspace_bytes)))
