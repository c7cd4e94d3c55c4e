"""The output-stationary dataflow: a square of multiply-accumulators that each keep one sum.

Positions enter along the rows and output channels along the columns, both skewed by one cycle per place; a fold of
R positions × C channels over K products takes K + R + C − 2 cycles before the next one starts. Equal to the stall-free
cycles of SCALE-Sim 3.0.0 (Samajdar et al., 2020) for the same array; `benchmarks/engine/scalesim_layers.py` compares.
"""

from __future__ import annotations

from .spec import EngineSpec
from .work import Elements, Work, ceil_div


def systolic_work(
    spec: EngineSpec, positions: int, channels: int, products: int, *, groups: int, moved: float, elements: Elements
) -> Work:
    """Work of `groups` products of `positions` × `products` by `products` × `channels` elements.

    `moved` are further SRAM bytes. Inputs are read again for each fold of channels, weights for each of positions.
    """
    down, across = ceil_div(positions, spec.positions), ceil_div(channels, spec.output_lanes)
    fold = products + spec.positions + spec.output_lanes - 2
    outputs = groups * positions * channels
    read = positions * across * elements.first.bytes + channels * down * elements.second.bytes
    return Work(
        array=groups * down * across * fold / elements.rate(spec),
        output=outputs / spec.output_elements_per_cycle,
        sram=(groups * products * read + moved) / spec.sram_bytes_per_cycle,
    )
