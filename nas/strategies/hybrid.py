"""`hybrid`: a zero-shot screen inside the budget, then trainings that a predictor chooses as it learns from them.

0. Supernet, only where a quarter of the seconds pays for enough epochs (`supernet_stage.for_hybrid` has the rule): it
   ranks the best of the screen together with the scores, and trainings begin with its weights.
1. Screen. Three quarters of its trials are wide draws, the rest changes of the best so far by combined rank of scores.
2. First trainings: the best of the screen that differ from one another; without a budget of trainings, that is all.
3. Rounds. The predictor, fitted to all trainings so far, looks over every cheap draw and the neighbours of the best
   networks, has the most promising scored, and trains the one with the highest upper confidence bound. It expects
   accuracy to follow the combined rank, whose weights the trainings change where they say enough, and learns the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ...models.architecture import Architecture
from ..proxies import Scores, rank_scores, size_warnings
from ..proxies.choice import Combination, pick_combination
from ..results import Finalist, TrialRecord, distinct
from ..seeds import Stream, seed_for
from ..session import Session, most_accurate
from ..study import Propose
from .accuracy_predictor import LEAST_LABELS, AccuracyPredictor
from .base import Outcome
from .candidates import Candidate, Candidates
from .earlier import EarlierSearch, scores_with, view_of
from .features import KnobFeatures, Matrix, cost_matrix, normal_scores, score_matrix
from .ranking import ranked
from .screened import assess_by_scores
from .supernet_stage import PLAN, for_hybrid
from .trained import unspent

FIRST_SHARE, FIRST_MOST = 3, 20  # one training in three, but no more than this, goes by scores alone
EVOLVED_SHARE = 4  # one trial in four of the screen, its last: more of them leave a screen of one kind
SHORTLIST = 5  # networks that each round has scored
JUDGED = 24  # networks of the screen that a supernet judges
PARENTS = 10  # best networks whose neighbourhood is looked at
OPTIMISM = 0.5  # standard deviations above the mean: the upper confidence bound
MOST_ROUNDS = 40  # a round trains more than one network where there are more trainings


@dataclass(frozen=True, slots=True)
class Plan:
    """How trials and trainings are divided. Without trainings beyond the first there are no rounds."""

    first: int
    rounds: int
    screen: int
    shortlist: int

    @classmethod
    def of(cls, trials: int, trainings: int) -> Plan:
        few = trainings <= 2 * LEAST_LABELS  # nothing is left to predict for
        first = trainings if few else min(max(LEAST_LABELS, trainings // FIRST_SHARE), FIRST_MOST)
        rounds = min(trainings - first, MOST_ROUNDS)
        shortlist = min(SHORTLIST, max(1, trials // 2 // rounds)) if rounds else 0
        return cls(first, rounds, trials - min(trials // 2, shortlist * rounds), shortlist)

    def trials_after(self, number: int) -> int:
        """Trials that are finished after round `number`; 0 is the screen."""
        return self.screen + self.shortlist * min(number, self.rounds)


class HybridStrategy:
    name = "hybrid"
    trains = True
    sampler = "random"  # for when nothing that was drawn is inside the budget
    summary = "rank untrained candidates, train the best, and let a predictor choose what to train next"

    def run(self, session: Session) -> Outcome:
        return _Run(session).outcome()


class _Run:
    """One search by this strategy. Its state follows from stored trials and trainings alone."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.assess = assess_by_scores(session)
        self.candidates = Candidates(session)
        self.knobs = KnobFeatures.of(session.bench.space)
        self.tried: dict[str, Finalist] = {}  # by digest: trained, or outside of the budget once measured
        self.predictor: AccuracyPredictor | None = None
        self.combination: Combination | None = None
        self.earlier = EarlierSearch.learn(session.beginning.labels, self.knobs, session.seed)
        self.stage, self.remark = session.charged(PLAN, lambda: for_hybrid(session))

    def outcome(self) -> Outcome:
        session = self.session
        if self.stage is not None:
            session.charged("supernet", self.stage.train)
            session.start_from = self.stage.weights
        plan = self._plan()
        cohort = session.charged("screen", lambda: self._screen(plan.screen))
        self._train(self._by_scores(cohort), plan.first - len(self._labelled()))
        number = 0
        while session.ledger.limited and session.ledger.open and len(self._labelled()) >= LEAST_LABELS:
            number += 1
            begun, total = plan.trials_after(number - 1), plan.trials_after(number)
            cohort = session.charged(f"round {number}", partial(self._shortlist, number, begun, total))
            left, rounds_left = session.ledger.left(0), max(1, plan.rounds - number + 1)
            if not self._train(self._by_confidence(cohort), -(-left // rounds_left)):
                break
        return self._conclude()

    def _plan(self) -> Plan:
        """How many trainings a limit of seconds pays for shows when one is done: the best of half of the trials."""
        session, trials = self.session, self.session.config.trials
        if session.config.train_seconds is not None and session.config.trainings is None:
            cohort = session.charged("first half of the screen", lambda: self._screen(max(1, trials // 2)))
            self._train(self._by_scores(cohort), 1)
        return Plan.of(trials, session.ledger.trainings + session.ledger.left(session.config.finalists))

    def _by_scores(self, cohort: Sequence[TrialRecord]) -> list[tuple[TrialRecord, float]]:
        """What is not tried yet by combined rank of the scores; its beginning by that and by the supernet's verdict."""
        ranking = ranked(cohort, rank_scores(scores_with(self.earlier, cohort)))
        left = [item for item in ranking if item[0].architecture.digest() not in self.tried]
        if self.stage is None:
            return left
        stage, judged = self.stage, left[:JUDGED]
        name = f"verdicts after {len(cohort)}"
        verdicts = self.session.charged(name, lambda: [stage.accuracy(r.architecture) for r, _ in judged])
        both = [{"screen": rank, "supernet": told} for (_, rank), told in zip(judged, verdicts, strict=True)]
        return ranked([record for record, _ in judged], rank_scores(both)) + left[JUDGED:]

    def _screen(self, total: int) -> list[TrialRecord]:
        """The feasible cohort of the first trials."""

        def propose(index: int) -> Architecture | None:
            cohort = self._cohort(index)
            known = {record.architecture.digest() for record in cohort}
            best = ranked(cohort, rank_scores([record.scores for record in cohort]))[:PARENTS]
            evolved = index >= total - total // EVOLVED_SHARE
            child = self.candidates.child([r.architecture for r, _ in best], known, index) if evolved else None
            return child or self.candidates.wide(known)

        return self._explore(total, propose)

    def _shortlist(self, number: int, begun: int, total: int) -> list[TrialRecord]:
        """The cohort after the round's trials: what the predictor finds most promising, without scores to go by."""
        cohort = self._cohort(begun)
        chosen: list[Architecture] = []

        def propose(index: int) -> Architecture | None:
            if not chosen:
                chosen.extend(self._promising(cohort, number, total - begun))
            return chosen[index - begun] if index - begun < len(chosen) else None

        return self._explore(total, propose)

    def _promising(self, cohort: Sequence[TrialRecord], number: int, count: int) -> list[Architecture]:
        known = {record.architecture.digest() for record in cohort}
        best = [f.architecture for f in most_accurate(self._labelled(), PARENTS)]
        found = [*self.candidates.drawn, *self.candidates.around(best, number)]
        new = {c.architecture.digest(): c for c in found if c.architecture.digest() not in known}
        labelled = self._labelled()
        pool = [Candidate(f.architecture, f.trial.cost) for f in labelled if f.trial.cost] + list(new.values())
        architectures = [c.architecture for c in pool]
        views = [self.knobs.matrix(architectures), cost_matrix([c.cost for c in pool])]
        views.append(view_of(self.earlier, architectures))
        bound = self._bound(views, range(len(labelled)), trend=False)[len(labelled) :]
        order = np.argsort(-bound, kind="stable")[:count]
        return [pool[len(labelled) + int(i)].architecture for i in order]

    def _by_confidence(self, cohort: Sequence[TrialRecord]) -> list[tuple[TrialRecord, float]]:
        """What is scored and not tried, by the upper confidence bound from knobs, cost and scores."""
        positions = {record.architecture.digest(): i for i, record in enumerate(cohort)}
        labelled = [positions[finalist.architecture.digest()] for finalist in self._labelled()]
        costs = cost_matrix([record.cost for record in cohort if record.cost])
        architectures, scores = [record.architecture for record in cohort], scores_with(self.earlier, cohort)
        trend = rank_scores(scores, self._weights([scores[i] for i in labelled]))
        views = [self.knobs.matrix(architectures), np.hstack([costs, score_matrix(cohort)])]
        views += [view_of(self.earlier, architectures), normal_scores(np.array(trend)[:, None])]
        bound = self._bound(views, labelled, trend=True)
        order = [i for i in np.argsort(-bound, kind="stable") if cohort[i].architecture.digest() not in self.tried]
        return [(cohort[i], float(bound[i])) for i in order]

    def _weights(self, labelled: Sequence[Scores]) -> Mapping[str, float]:
        """What each score counts for in the combined rank, from the scores of what was trained so far."""
        default = sorted(labelled[0])
        self.combination = pick_combination(labelled, self._accuracies, default, seed=self._predictor_seed)
        return self.combination.weights

    def _bound(self, views: Sequence[Matrix], labelled: Sequence[int], *, trend: bool) -> Matrix:
        """The upper confidence bound of every row of `views`, of which `labelled` were trained."""
        open_views = [view for view in views if view.shape[1]]
        features, widths = np.hstack(open_views), [view.shape[1] for view in open_views]
        self.predictor = AccuracyPredictor(
            features[list(labelled)], self._accuracies, self._predictor_seed, views=widths, trend=trend
        )
        mean, deviation = self.predictor.predict(features)
        return mean + OPTIMISM * deviation

    @property
    def _accuracies(self) -> list[float]:
        return [finalist.accuracy or 0.0 for finalist in self._labelled()]

    @property
    def _predictor_seed(self) -> int:
        return seed_for(self.session.seed, Stream.PREDICTOR, len(self._labelled()))

    def _train(self, ranking: Sequence[tuple[TrialRecord, float]], most: int) -> bool:
        """Trains the first of a ranking; True when there was anything to train."""
        found = self.session.train_ranked(ranking, most)
        self.tried.update({finalist.architecture.digest(): finalist for finalist in found})
        return bool(found)

    def _labelled(self) -> list[Finalist]:
        return [finalist for finalist in self.tried.values() if finalist.accuracy is not None]

    def _explore(self, total: int, propose: Propose) -> list[TrialRecord]:
        self.session.explore(self.assess, total=total, propose=propose)
        return self._cohort(total)

    def _cohort(self, total: int) -> list[TrialRecord]:
        """The feasible ones among the first `total` trials."""
        return [record for record in distinct(self.session.study.records[:total]) if record.feasible]

    def _conclude(self) -> Outcome:
        cohort = self._cohort(self.session.config.trials)
        warnings = size_warnings([record.scores for record in cohort], [r.cost.macs for r in cohort if r.cost])
        warnings += [str(self.earlier)] if self.earlier else []
        if self.predictor is not None:
            warnings.append(str(self.predictor.report))
        if self.combination is not None and self.combination.learned:
            warnings.append(f"weights of the scores: {self.combination.reason}")
        tried = list(self.tried.values())
        warnings += [self.remark] if self.remark else []
        warnings += self.stage.remarks(tried) if self.stage else []
        finalists = most_accurate(tried, self.session.config.finalists)
        return Outcome(tuple(finalists), (*warnings, *unspent(self.session)))


HYBRID = HybridStrategy()
