from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from headless import find_browser, headless
from report_runs import formula_run, small_space

from lanefit.models.baselines import mobilenet_v2
from lanefit.models.registry import families, find_task
from lanefit.nas.curation.costs import TargetCosts
from lanefit.nas.report.diagram import draw_diagram
from lanefit.nas.report.network import NetworkSketch, sketch_network
from lanefit.nas.report.relief import relief
from lanefit.nas.report.sections import Extras, sections
from lanefit.nas.report.source import Source
from lanefit.nas.report.write import render, write_report
from lanefit.targets.spec import load_spec

ALWAYS = {
    "history",
    "hypervolume",
    "importance-value",
    "importance-latency",
    "architecture",
    "landscape",
    "macs",
    "curves",
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return formula_run(tmp_path_factory.mktemp("page") / "run")


@pytest.fixture(scope="module")
def networks() -> tuple[NetworkSketch, ...]:
    family, spec = families.get("ibn-classifier"), load_spec("ne-64")
    shown = {"baseline": mobilenet_v2(), "winner <1>": small_space().sample(1)}
    made = {name: family.layers(found, input_channels=1, classes=10) for name, found in shown.items()}
    return tuple(sketch_network(name, layers, spec) for name, layers in made.items())


@pytest.fixture(scope="module")
def extras(source: Source, networks: tuple[NetworkSketch, ...]) -> Extras:
    """Everything that a report can show, the landscape by a closed form."""
    costs = TargetCosts("toy", lambda layers: float(sum(-(-layer.macs // 10**6) for layer in layers)))
    kept = [{"knob": "stage1_channels", "kept": [16, 32]}, {"knob": "activation", "kept": ["relu"]}]
    return Extras(networks, relief=relief(source.config, {"knobs": kept}, costs, find_task("digits")))


class Outline(HTMLParser):
    """Ids, links within the page, and whatever would load something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            elif name == "href" and str(value).startswith("#"):
                self.links.append(str(value)[1:])
            elif name in ("src", "href", "srcset", "data"):
                self.loads.append(str(value))


def test_a_finished_search_has_every_section(source: Source, extras: Extras) -> None:
    parts = {part.key: part for part in sections(source, extras)}
    assert set(parts) == ALWAYS | {"pareto-score", "pareto-finalists"}
    assert not [part.missing for part in parts.values() if part.missing]
    outline = Outline(render(source, list(parts.values())))
    assert len(set(outline.ids)) == len(outline.ids)
    assert set(outline.links) <= set(outline.ids)
    assert outline.loads == ["data:,"]


def test_equal_searches_give_equal_pages(source: Source, extras: Extras) -> None:
    pages = [render(source, sections(source, extras)) for _ in range(2)]
    assert pages[0] == pages[1]


def test_a_search_without_trials_says_what_is_missing(source: Source) -> None:
    empty = replace(source, result=replace(source.result, trials=(), finalists=(), winner=None))
    parts = sections(empty)
    assert all(part.missing for part in parts)
    text = render(empty, parts)
    assert text.count('class="missing"') == len(parts)
    assert "none of 0 candidates meets the budget" in text


def test_names_cannot_break_out_of_the_page(source: Source, extras: Extras) -> None:
    evil = "</script><script>alert(1)</script>"
    bad = replace(source, name=evil, gaps=(evil,), result=replace(source.result, warnings=(evil,)))
    named = (replace(extras.networks[0], title=evil), extras.networks[1])
    text = render(bad, sections(bad, replace(extras, networks=named)))
    assert evil not in text
    assert "<script>alert" not in text
    assert "winner &lt;1&gt;" in text


def test_the_page_says_budgets_violations_and_spending_in_words(source: Source) -> None:
    text = render(source, sections(source))
    for words in ("violation rate", "0.0% (0 of 3)", "3, 0 of them stopped early", "PASS latency", "accuracy"):
        assert words in text


def test_the_diagram_draws_a_bar_for_every_block(networks: tuple[NetworkSketch, ...]) -> None:
    blocks = sum(len(network.blocks) for network in networks)
    assert draw_diagram(networks).count("<g>") == blocks
    widths = [float(w) for w in re.findall(r'width="([\d.]+)" height="16"', draw_diagram(networks))]
    assert len(widths) == blocks
    assert max(widths) == 150


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["hybrid", "multi-shot"])
def test_a_browser_without_network_draws_every_figure_and_complains_of_nothing(
    strategy: str, extras: Extras, tmp_path: Path
) -> None:
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium on the path, and LANEFIT_BROWSER names none")
    path = tmp_path / "report.html"
    parts = write_report(formula_run(tmp_path / "run", strategy=strategy), path, extras)
    plotted = [part.key for part in parts if part.figure is not None]
    with headless(program, tmp_path / "profile") as browser:
        browser.open(path)
        for key in plotted:
            assert browser.evaluate(f"document.querySelectorAll('#{key}-plot .trace').length") > 0, key
        assert browser.evaluate("document.querySelector('#architecture svg').getBoundingClientRect().height") > 100
        assert browser.evaluate("document.querySelectorAll('.drawing').length") == len(plotted) >= 5
        assert browser.page.complaints == []
        assert browser.page.requests == [path.resolve().as_uri()]


@pytest.mark.slow
def test_a_page_that_fails_is_noticed(tmp_path: Path) -> None:
    """The watching of the test above is itself held to a page with an error and a request."""
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium on the path, and LANEFIT_BROWSER names none")
    path = tmp_path / "bad.html"
    path.write_text("<!DOCTYPE html><img src='http://127.0.0.1:9/a.png'><script>nothing.there()</script>")
    with headless(program, tmp_path / "profile") as browser:
        browser.open(path)
        assert any("nothing is not defined" in complaint for complaint in browser.page.complaints)
        assert "http://127.0.0.1:9/a.png" in browser.page.requests
