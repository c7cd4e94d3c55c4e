from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nas_fakes import FakeBench, toy_config

from lanefit.common.errors import InputError
from lanefit.nas.figures import draw_layers, draw_pareto
from lanefit.nas.report_data import LayerTime, Point, finalist_plane, pareto_front, screen_plane, slowest
from lanefit.nas.results import SearchResult
from lanefit.nas.search import run_search

BASELINE = Point("baseline", 400.0, 0.7, measured=True, feasible=False)
points = st.builds(
    Point, st.just("p"), st.floats(1, 100), st.floats(0, 1), measured=st.booleans(), feasible=st.booleans()
)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    config = toy_config(budgets={"latency": "300us", "accuracy": "50%"})
    return run_search(config, tmp_path_factory.mktemp("figures") / "run", FakeBench(measured_factor=1.02))


@given(st.lists(points, max_size=30))
def test_nothing_beats_a_point_of_the_front_and_everything_else_is_beaten(cloud: list[Point]) -> None:
    front = pareto_front(cloud)
    assert all(a.latency_us < b.latency_us and a.quality < b.quality for a, b in pairwise(front))
    for point in cloud:
        if point.feasible:
            assert any(best.latency_us <= point.latency_us and best.quality >= point.quality for best in front)


def test_the_screen_shows_every_candidate_that_has_a_cost(tmp_path: Path) -> None:
    result = run_search(toy_config(strategy="zero-shot"), tmp_path / "run", FakeBench())
    plane = screen_plane(result)
    assert plane is not None
    assert plane.quality == "zero-shot score"
    assert len(plane.points) + len(plane.unscored_us) == len(result.trials)
    assert min(plane.unscored_us) > 300
    assert plane.budget_us == 300
    assert plane.winner in plane.points


def test_finalists_appear_predicted_and_measured_beside_the_references(result: SearchResult) -> None:
    plane = finalist_plane(result, [BASELINE])
    assert plane is not None
    labels = [point.label for point in plane.points if point.measured]
    assert labels == [point.label for point in plane.points if not point.measured]
    assert (plane.references, plane.floor) == ((BASELINE,), 0.5)
    assert plane.winner is not None
    assert plane.winner.measured


def test_a_search_without_scores_has_no_screen(tmp_path: Path) -> None:
    random = run_search(toy_config(strategy="random", trials=6), tmp_path / "run", FakeBench())
    assert screen_plane(random) is None
    assert finalist_plane(random) is not None


def test_a_multi_shot_screen_shows_accuracies(tmp_path: Path) -> None:
    trained = run_search(toy_config(strategy="multi-shot", trials=6), tmp_path / "run", FakeBench())
    plane = screen_plane(trained)
    assert plane is not None
    assert plane.quality == "validation accuracy"


def test_the_slowest_layers_stay_in_order_and_the_rest_is_summed() -> None:
    layers = [LayerTime(str(i), float(i % 4), "array") for i in range(8)]
    shown = slowest(layers, 3)
    assert [layer.label for layer in shown] == ["2", "3", "7", "5 others"]
    assert sum(layer.latency_us for layer in shown) == sum(layer.latency_us for layer in layers)
    assert slowest(layers, 8) == layers


def test_figures_are_png_files_with_equal_bytes_for_equal_data(result: SearchResult, tmp_path: Path) -> None:
    layers = [LayerTime("stem", 3.0, "array"), LayerTime("head", 2.0, "made-up bound")]
    for name in ("a", "b"):
        draw_pareto(result, tmp_path / f"{name}.png", [BASELINE])
        draw_layers([("baseline", layers), ("winner", layers[:1])], tmp_path / f"{name}-layers.png")
    for figure in ("", "-layers"):
        data = (tmp_path / f"a{figure}.png").read_bytes()
        assert data.startswith(b"\x89PNG")
        assert data == (tmp_path / f"b{figure}.png").read_bytes()


def test_nothing_to_draw_is_an_input_error(result: SearchResult, tmp_path: Path) -> None:
    from dataclasses import replace

    with pytest.raises(InputError, match="neither scores nor accuracies"):
        draw_pareto(replace(result, trials=(), finalists=()), tmp_path / "a.png")
    with pytest.raises(InputError, match="without layers"):
        draw_layers([("empty", [])], tmp_path / "a.png")
