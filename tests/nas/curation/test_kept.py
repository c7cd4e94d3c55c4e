"""A curation that is kept with a run: read back instead of made again, but only for what it followed from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from estimator.sample_graphs import small_estimator
from nas_fakes import TOY, FakeBench, toy_config

import lanefit.nas.workbench
from lanefit.common.errors import ConfigError
from lanefit.export.graph import Graph
from lanefit.models.registry import families
from lanefit.nas.config import SearchConfig
from lanefit.nas.curation import (
    CurationReport,
    KeptCuration,
    KnobCuration,
    TargetCosts,
    curate,
    curation_key,
    keep_curation,
    kept_curation,
)
from lanefit.nas.curation.costs import work_of
from lanefit.nas.rundir import RunDirectory
from lanefit.nas.scoring import Cost
from lanefit.nas.search import run_search
from lanefit.nas.sharing import find_shared
from lanefit.nas.space import Space
from lanefit.nas.storage import parse_place
from lanefit.nas.workbench import workbench
from lanefit.targets.spec import load_spec

CONFIG = SearchConfig(task="digits", target="ne-256", knobs={"stages": [2, 3]})
NE_256 = load_spec("ne-256")
SHAPE = {"input_channels": 1, "classes": 10}


class Probing:
    """Stands in for curation: keeps the first two values of every knob, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, space: Space, *_: Any, **__: Any) -> tuple[Space, CurationReport]:
        self.asked += 1
        knobs = tuple(replace(knob, values=knob.values[:2]) for knob in space.knobs)
        left = replace(space, knobs=knobs, ordered=True)
        entries = tuple(KnobCuration(knob.name, knob.values) for knob in knobs)
        return left, CurationReport("none", space.cardinality(), left.cardinality(), entries)


@pytest.fixture
def probing(monkeypatch: pytest.MonkeyPatch) -> Probing:
    found = Probing()
    monkeypatch.setattr(lanefit.nas.workbench, "curate", found)
    return found


def toy_curation(key: str = "abc") -> tuple[Space, KeptCuration]:
    space, report = curate(Space.of(TOY), TargetCosts("even", lambda layers: work_of(layers)[0], lanes=16))
    return space, KeptCuration(key, report)


def test_what_is_kept_gives_the_same_space_and_the_same_report(tmp_path: Path) -> None:
    space, found = toy_curation()
    keep_curation(tmp_path / "curation.json", found)
    again = kept_curation(tmp_path / "curation.json")
    assert again is not None
    assert again == found
    assert again.space(Space.of(TOY)) == space
    assert kept_curation(tmp_path / "absent.json") is None


def test_a_second_sitting_reads_the_curation_instead_of_probing(probing: Probing) -> None:
    first, report = workbench(CONFIG, small_estimator(), NE_256)
    assert first.curation is not None
    kept = KeptCuration.from_dict(json.loads(json.dumps(first.curation.as_dict())), where="here")
    second, again = workbench(CONFIG, small_estimator(), NE_256, kept=lambda _: kept)
    assert probing.asked == 1
    assert (second.space, again) == (first.space, report)


def test_a_curation_of_something_else_is_not_looked_at(probing: Probing) -> None:
    first, _ = workbench(CONFIG, small_estimator(), NE_256)
    other = CONFIG.replaced(knobs={"stages": [2, 3, 4]})
    second, _ = workbench(other, small_estimator(), NE_256, kept=lambda _: first.curation)
    assert probing.asked == 2
    assert first.curation is not None
    assert second.curation is not None
    assert first.curation.key != second.curation.key


def test_the_key_follows_from_everything_that_curation_does() -> None:
    space, estimator = Space.of(families.get("ibn-classifier")), small_estimator()
    key = curation_key(space, NE_256.digest(), estimator, SHAPE, [])
    assert key == curation_key(Space.of(families.get("ibn-classifier")), NE_256.digest(), estimator, SHAPE, [])
    others = [
        curation_key(space.restrict({"stem_kernel": [3]}), NE_256.digest(), estimator, SHAPE, []),
        curation_key(space, load_spec("ne-64").digest(), estimator, SHAPE, []),
        curation_key(space, NE_256.digest(), estimator, {**SHAPE, "classes": 11}, []),
        curation_key(space, NE_256.digest(), estimator, SHAPE, ["stages"]),
        curation_key(Space.of(TOY), NE_256.digest(), estimator, SHAPE, []),
    ]
    assert len({key, *others}) == 1 + len(others)


def test_an_estimator_that_nothing_tells_apart_keeps_no_curation(probing: Probing) -> None:
    class Anonymous:
        def estimate(self, graph: Graph) -> Cost:
            return Cost(graph.macs / 1e3, graph.macs / 0.9e3, 1000, 1000, 1000, graph.macs)

    found, report = workbench(CONFIG, Anonymous(), NE_256)
    assert report is not None
    assert found.curation is None


def test_a_search_leaves_its_curation_in_its_directory_and_to_its_workers(tmp_path: Path) -> None:
    class Bench(FakeBench):
        curation = toy_curation()[1]

    place = parse_place(f"sqlite:///{tmp_path}/shared.db")
    run_search(toy_config(trials=3), tmp_path / "run", Bench(), storage=place)
    assert kept_curation(RunDirectory(tmp_path / "run").curation) == Bench.curation
    assert find_shared(place).curation == Bench.curation


@pytest.mark.parametrize("text", ["[]", '{"key": "a"}', '{"key": "a", "report": {"knobs": []}}', "{"])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "curation.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"curation") as caught:
        kept_curation(path)
    assert caught.value.where == str(path)


def test_a_curation_that_lacks_a_knob_is_refused() -> None:
    _, found = toy_curation()
    short = KeptCuration("abc", replace(found.report, knobs=found.report.knobs[1:]))
    with pytest.raises(ConfigError, match=found.report.knobs[0].knob):
        short.space(Space.of(TOY))
