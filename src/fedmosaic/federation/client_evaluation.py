"""Evaluate a client as the views that are asked for, of which some give each input to another."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal

import torch

from fedmosaic.evaluation import Record, Score
from fedmosaic.federation.instructions import Instructions
from fedmosaic.federation.measure import Timed, scores_of, scores_of_some, tests_of
from fedmosaic.federation.views import base_to_compare, features_of, model_of, routes_of

if TYPE_CHECKING:
    from fedmosaic.federation.client import LocalClient


class ClientEvaluation:
    """Score the views of a client on its tests, inside one of its turns.

    Args:
        client: the client, whose weights are in the adapted model.
        instructions: the round's.
        stage: before or after local training.
    """

    def __init__(
        self, client: LocalClient, instructions: Instructions, stage: Literal["before", "after"]
    ) -> None:
        self.client = client
        self.round, self.stage = instructions.round, stage
        self.tests = tests_of(client.runtime.scenario, client.spec, instructions)
        self._whole: dict[str, list[Timed]] = {}  # by view

    def records(self) -> list[Record]:
        """Return the scores of every view that is asked for and that the algorithm has.

        Views that route come last, because they take what other views have answered already.
        """
        algorithm, found = self.client.algorithm, list[Record]()
        routed = algorithm.routed_views()
        views = self.client.runtime.scenario.evaluation.views
        asked = [view for view in views if view in algorithm.all_views()]
        for view in [view for view in asked if view not in routed]:
            found += self._recorded(view, self._scores(view), [{}] * len(self.tests))
        for view in [view for view in asked if view in routed]:
            found += self._recorded(view, *self._routed(view))
        return found

    def _scores(self, view: str) -> list[Timed]:
        """Return the scores of a view that does not route, on all tests."""
        with model_of(self.client, view) as model:
            scores = scores_of(self.client.runtime, self.client.spec, model, self.tests)
        self._whole[view] = scores
        return scores

    # --- views that route ---------------------------------------------------------------------
    def _routed(self, view: str) -> tuple[list[Timed], list[dict[str, int]]]:
        """Return the scores of a view that routes, and how many items each model answered."""
        routes = self._routes(view)
        found = [Merged([0.0] * len(of_test)) for of_test in routes]
        for route in dict.fromkeys(name for of_test in routes for name in of_test):
            rows = [
                [place for place, name in enumerate(of_test) if name == route] for of_test in routes
            ]
            if route in self._whole:
                parts = [_rows(t, r) for t, r in zip(self._whole[route], rows, strict=True)]
            else:
                parts = self._some(route, rows)
            for merged, part, chosen in zip(found, parts, rows, strict=True):
                merged.add(part, chosen)
        counts = [dict(Counter(of_test)) for of_test in routes]
        return [merged.timed() for merged in found], counts

    def _some(self, view: str, rows: list[list[int]]) -> list[Timed]:
        """Return the scores of a view on some items of each test."""
        client, base = self.client, base_to_compare(self.client, view)
        with model_of(self.client, view) as model:
            return scores_of_some(client.runtime, client.spec, model, self.tests, rows, base)

    def _routes(self, view: str) -> list[list[str]]:
        """Return for each test the view that answers each item."""
        client, runtime = self.client, self.client.runtime
        prompts = [features_of(client, runtime.test_set(spec, n)) for spec, n in self.tests]
        chosen = iter(routes_of(client, view, torch.cat(prompts)))
        return [[next(chosen) for _ in of_test] for of_test in prompts]

    def _recorded(
        self, view: str, scores: list[Timed], routes: list[dict[str, int]]
    ) -> list[Record]:
        task = self.client.runtime.task
        return [
            Record(
                round=self.round,
                client=self.client.name,
                task=spec.name,
                metric=task(spec).metric,
                value=timed.score.score,
                n=timed.score.n,
                unreadable=timed.score.unreadable,
                stage=self.stage,
                view=view,
                seconds=timed.seconds,
                routes=counts,
            )
            for (spec, _), timed, counts in zip(self.tests, scores, routes, strict=True)
        ]


class Merged:
    """Put the score of a test together from parts that different models answered.

    Args:
        values: one value for each item, to be replaced.
    """

    def __init__(self, values: list[float]) -> None:
        self._values = values
        self._unread: list[int] = []
        self._seconds = 0.0

    def add(self, part: Timed, rows: list[int]) -> None:
        """Take the values of the items at ``rows``."""
        for row, value in zip(rows, part.score.values, strict=True):
            self._values[row] = value
        self._unread += [rows[place] for place in part.score.unread]
        self._seconds += part.seconds

    def timed(self) -> Timed:
        """Return the score of the whole test."""
        return Timed(Score.of(self._values, sorted(self._unread)), self._seconds)


def _rows(whole: Timed, rows: list[int]) -> Timed:
    """Return the part of a score that belongs to some items, without new cost."""
    values = [whole.score.values[row] for row in rows]
    unread = [place for place, row in enumerate(rows) if row in set(whole.score.unread)]
    return Timed(Score.of(values, unread), 0.0)
