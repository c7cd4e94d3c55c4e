from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from lanefit.common.errors import InputError
from lanefit.models.architecture import Architecture
from lanefit.models.nas_bench_201 import NAS_BENCH_201, parse_architecture
from lanefit.nas.proxies.conformance import minibatch
from lanefit.nas.score_cache import ScoreCache, ScoreContext
from lanefit.nas.scorer import Scorer

CELL = parse_architecture("|skip_connect~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|")
CONTEXT = ScoreContext.of(torch.zeros(2, 3, 4, 4), None, seed=1, classes=10)


class Counter:
    """Scores that say how many have been computed."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, names: Sequence[str]) -> tuple[dict[str, float], dict[str, float]]:
        self.asked.append(list(names))
        return {name: -math.inf if name == "dead" else 1.5 for name in names}, dict.fromkeys(names, 0.25)


def test_only_scores_that_nobody_computed_are_computed_and_infinities_survive(tmp_path: Path) -> None:
    compute = Counter()
    for names in (["a", "dead"], ["dead", "b"], ["a", "b", "dead"]):
        found = ScoreCache(tmp_path / "scores.db").scores(CELL, names, CONTEXT, compute)
        assert list(found.scores) == names
        assert found.scores["dead"] == -math.inf
        assert set(found.seconds.values()) == {0.25}
    assert compute.asked == [["a", "dead"], ["b"]]


def test_everything_that_decides_a_score_is_part_of_its_key() -> None:
    images, labels = minibatch(2), torch.tensor([0, 1])
    contexts = [
        ScoreContext.of(images, labels, seed=0, classes=4),
        ScoreContext.of(images, labels, seed=1, classes=4),
        ScoreContext.of(images, labels, seed=0, classes=5),
        ScoreContext.of(images, labels.flip(0), seed=0, classes=4),
        ScoreContext.of(images, None, seed=0, classes=4),
        ScoreContext.of(images + 1e-6, labels, seed=0, classes=4),
        ScoreContext.of(images.double(), labels, seed=0, classes=4),
    ]
    other = Architecture.of(CELL.family, {**CELL.values, "node3_from2": "nor_conv_3x3"})
    assert len({context.key(cell) for context in contexts for cell in (CELL, other)}) == 2 * len(contexts)


def test_what_another_process_wrote_first_counts(tmp_path: Path) -> None:
    mine, theirs = ScoreCache(tmp_path / "scores.db"), ScoreCache(tmp_path / "scores.db")

    def overtaken(names: Sequence[str]) -> tuple[dict[str, float], dict[str, float]]:
        theirs.scores(CELL, names, CONTEXT, Counter())
        return dict.fromkeys(names, 9.0), dict.fromkeys(names, 9.0)

    assert mine.scores(CELL, ["a"], CONTEXT, overtaken).scores == {"a": 1.5}
    assert len(mine) == len(theirs) == 1


@pytest.mark.parametrize("content", [b"not a database, but long enough to be read as one" * 40, b"\x00" * 4096])
def test_a_file_that_is_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "scores.db").write_bytes(content)
    with pytest.raises(InputError, match="not a score cache"):
        ScoreCache(tmp_path / "scores.db")


def test_a_scorer_scores_each_network_once_and_by_its_canonical_form(tmp_path: Path) -> None:
    images, labels = minibatch(2, size=32), torch.tensor([0, 1])

    def scorer() -> Scorer:
        cache = ScoreCache(tmp_path / "scores.db")
        return Scorer(NAS_BENCH_201, images, labels, classes=4, proxies=("naswot", "synflow"), cache=cache)

    first = scorer()(CELL)
    assert all(map(math.isfinite, first.scores.values()))
    assert min(first.seconds.values()) > 0
    assert scorer()(CELL) == first  # seconds too, so it was not computed again
    assert len(ScoreCache(tmp_path / "scores.db")) == 2
