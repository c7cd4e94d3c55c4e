"""The architecture diagram as SVG: two networks side by side, a bar of its time beside every block."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from ...common.drawing import bound_colour
from ...common.units import format_us
from .network import Block, NetworkSketch, facing

_ROW, _BOX, _BAR, _COLUMN = 46, 290, 150, 520  # pixels
_TOP = 56


def draw_diagram(networks: tuple[NetworkSketch, ...]) -> str:
    """An `svg` element of one network or two; all bars share a scale."""
    rows = facing(*networks) if len(networks) == 2 else [(block,) for block in networks[0].blocks]
    longest = max(block.latency_us for network in networks for block in network.blocks) or 1.0
    width, height = _COLUMN * len(networks), _TOP + _ROW * len(rows) + 8
    drawn = [*_titles(networks)]
    for number, row in enumerate(rows):
        for column, block in enumerate(row):
            if block is not None:
                drawn += _block(block, _COLUMN * column, _TOP + _ROW * number, longest)
    label = escape(" and ".join(f"{n.title}, {format_us(n.latency_us)}" for n in networks), quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="Blocks of {label}" '
        f'viewBox="0 0 {width} {height}" width="{width}" class="diagram">{"".join(drawn)}</svg>'
    )


def _titles(networks: tuple[NetworkSketch, ...]) -> Iterator[str]:
    for column, network in enumerate(networks):
        text = escape(f"{network.title}: {format_us(network.latency_us)}")
        yield f'<text x="{_COLUMN * column + 4}" y="20" font-size="16" font-weight="bold">{text}</text>'
        macs = sum(block.macs for block in network.blocks)
        yield f'<text x="{_COLUMN * column + 4}" y="40" font-size="12">{macs:,} MACs</text>'


def _block(block: Block, x: int, y: int, longest: float) -> Iterator[str]:
    shapes = f"{_shape(block.input_shape)} → {_shape(block.output_shape)}"
    what = escape(", ".join(_counted(block.layers)))
    bar = max(_BAR * block.latency_us / longest, 0.5)
    yield f"<g><title>{escape(block.name)}: {what}; {shapes}; {block.macs:,} MACs; {block.bound}-bound</title>"
    yield f'<rect x="{x + 2}" y="{y}" width="{_BOX}" height="{_ROW - 6}" rx="4" fill="#F7F7F7" stroke="#555"/>'
    yield f'<text x="{x + 10}" y="{y + 16}" font-size="12"><tspan font-weight="bold">{escape(block.name)}</tspan> '
    yield f'<tspan dx="4">{shapes}</tspan></text>'
    yield f'<text x="{x + 10}" y="{y + 32}" font-size="11">{_clipped(what)}</text>'
    yield f'<rect x="{x + _BOX + 10}" y="{y + 3}" width="{bar:.1f}" height="16" fill="{bound_colour(block.bound)}"/>'
    words = f"{format_us(block.latency_us)} {escape(block.bound)}"
    yield f'<text x="{x + _BOX + 10}" y="{y + 33}" font-size="11">{words}</text></g>'


def _counted(words: tuple[str, ...]) -> list[str]:
    return [f"{words.count(word)} × {word}" if words.count(word) > 1 else word for word in dict.fromkeys(words)]


def _clipped(text: str, most: int = 52) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _shape(shape: tuple[int, int, int]) -> str:
    return "×".join(str(size) for size in shape)
