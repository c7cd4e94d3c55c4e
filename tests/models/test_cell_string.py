from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanefit.common.errors import ConfigError
from lanefit.models.cell_string import (
    CONV_1,
    CONV_3,
    EDGES,
    NONE,
    OPERATIONS,
    POOL,
    SKIP,
    format_cell,
    is_connected,
    parse_cell,
)

CELLS = st.fixed_dictionaries({edge: st.sampled_from(OPERATIONS) for edge in EDGES})
EXAMPLE = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|nor_conv_3x3~2|"


@given(CELLS)
def test_every_cell_survives_its_string(edges: dict[tuple[int, int], str]) -> None:
    assert parse_cell(format_cell(edges)) == edges


def test_the_edges_of_a_string_are_read_in_its_order() -> None:
    edges = parse_cell(EXAMPLE)
    assert [edges[edge] for edge in EDGES] == [POOL, CONV_1, SKIP, CONV_1, SKIP, CONV_3]
    assert format_cell(edges) == EXAMPLE


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("", 0),
        ("avg_pool_3x3~0|", 0),
        ("|avg_pool_3x3~1|", 14),
        ("|avg_pool_3x3|", 1),
        ("|avg_pool_3x3~0|", 16),
        (EXAMPLE.replace("+", "-", 1), 16),
        (EXAMPLE.replace("nor_conv_3x3", "nor_conv_9x9"), EXAMPLE.index("nor_conv_3x3")),
        (EXAMPLE + "+|none~0|", len(EXAMPLE)),
        (EXAMPLE[:-1], EXAMPLE.rindex("nor_conv_3x3")),
    ],
)
def test_a_malformed_string_is_refused_with_the_position(text: str, position: int) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_cell(text)
    assert caught.value.where.startswith(f"position {position} of")


@given(st.text(alphabet="|~+none012skip_x3", max_size=120))
def test_any_text_is_a_cell_or_a_typed_error(text: str) -> None:
    try:
        edges = parse_cell(text)
    except ConfigError:
        return
    assert format_cell(edges) == text


def test_a_cell_is_connected_when_some_path_without_none_reaches_its_output() -> None:
    nothing = dict.fromkeys(EDGES, NONE)
    assert not is_connected(nothing)
    assert is_connected({**nothing, (3, 0): SKIP})
    assert is_connected({**nothing, (1, 0): POOL, (2, 1): CONV_1, (3, 2): CONV_3})
    assert not is_connected({**nothing, (1, 0): POOL, (2, 1): CONV_1, (3, 1): NONE})
    assert not is_connected({**nothing, (2, 1): CONV_3, (3, 2): CONV_3, (3, 1): CONV_3})
