"""The verdict says no more than paired intervals bear out."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fedmosaic.reporting.html.collect import Relevance, RunData, collect
from fedmosaic.reporting.html.matrices import MOST, relevance
from fedmosaic.reporting.html.sections import Section, sections
from fedmosaic.reporting.html.verdict import (
    controls,
    headline,
    inside_share,
    listening,
    standing,
    sureness,
)


@pytest.fixture
def like(made_once: Path) -> Section:
    (section,) = sections(collect([made_once]))
    return section


def with_figures(
    like: Section, figures: Mapping[str, tuple[Sequence[float], Sequence[float]]]
) -> Section:
    """The section with such Self and Others, one value a seed."""
    runs = {}
    for label, (own, others) in figures.items():
        runs[label] = {
            seed: figured(
                like.runs["fedmosaic" if label == "fedmosaic" else "sft"][0], label, seed, a, b
            )
            for seed, (a, b) in enumerate(zip(own, others, strict=True))
        }
    return Section("s", runs)


def figured(run: RunData, label: str, seed: int, own: float, others: float) -> RunData:
    summary = copy.deepcopy(dict(run.summary))
    summary["self"]["last"], summary["others"]["last"] = own / 100, others / 100
    settings = run.settings.model_copy(update={"algorithm": label, "seed": seed})
    return replace(run, settings=settings, summary={**summary, "algorithm": label, "seed": seed})


def verdict(section: Section) -> str:
    standings = [found for column in ("Self", "Others") if (found := standing(section, column))]
    return headline(standings, len(section.seeds))


def test_a_winner_is_above_every_other(like: Section) -> None:
    section = with_figures(
        like,
        {
            "sft": ([50, 52, 54], [30, 32, 34]),
            "fedavg": ([40, 41, 44], [35, 37, 39]),
            "fedmosaic": ([60, 61, 63], [40, 42, 45]),
        },
    )
    # 60 − 50, 61 − 52, 63 − 54: mean 9.33, s = 0.577, t(0.975, 2) = 4.303, half-width 1.43; the same for 5, 5, 6.
    assert verdict(section) == (
        "fedmosaic wins on both counts: +9.3 ± 1.4 points on own tasks (next: sft) and "
        "+5.3 ± 1.4 points on the other clients' tasks (next: fedavg)."
    )
    found = standing(section, "Others")
    assert found and found.won and found.local and found.local.mean == pytest.approx(31 / 3)
    assert sureness(found).startswith("Sure at 95 %")


def test_no_winner_where_one_interval_reaches_zero(like: Section) -> None:
    figures = {
        "sft": ([50, 52, 54], [30, 32, 34]),
        "fedavg": ([50, 51, 54], [35, 45, 37]),
        "fedmosaic": ([51, 51.5, 53], [40, 42, 45]),
    }
    section = with_figures(like, figures)
    assert verdict(section).startswith(
        "No winner that 3 seeds can tell: highest are sft on own tasks (+0.2 "
    )
    found = standing(section, "Others")
    # Above local training surely, above the next best not: no win, and both are said.
    assert (
        found and not found.won and list(found.level) == ["fedavg"] and list(found.under) == ["sft"]
    )
    assert "fedavg may be as good" in sureness(found) and "It is above sft." in sureness(found)
    assert sureness(found).startswith("Not sure")

    both = with_figures(like, {"sft": ([50, 52], [30, 33]), "fedmosaic": ([55, 52], [35, 33])})
    assert verdict(both).startswith(
        "fedmosaic is highest on both counts, but 2 seeds cannot tell that it wins"
    )
    mixed = with_figures(
        like, {"sft": ([50, 52, 54], [30, 32, 34]), "fedmosaic": ([60, 62, 64.1], [30, 35, 33])}
    )
    assert verdict(mixed).startswith(
        "On own tasks fedmosaic wins (+10.0 ± 0.1 points over sft); on the other clients' tasks no"
    )


def test_a_win_over_the_next_best_is_not_enough(like: Section) -> None:
    steady, wild, best = (
        ([50, 51, 52], [30] * 3),
        ([20, 49, 78], [30] * 3),
        ([53, 54, 55.1], [30] * 3),
    )
    found = standing(with_figures(like, {"sft": steady, "fedavg": wild, "fedmosaic": best}), "Self")
    assert (
        found
        and found.next == "sft"
        and found.margin
        and found.margin.mean - (found.margin.half or 0) > 0
    )
    assert not found.won and list(found.level) == ["fedavg"]


def test_one_seed_or_one_algorithm_tells_nothing(like: Section) -> None:
    one = with_figures(like, {"sft": ([50], [30]), "fedmosaic": ([90], [20])})
    assert verdict(one).startswith(
        "One seed cannot tell a winner"
    ) and "+40.0 points over sft" in verdict(one)
    found = standing(one, "Self")
    assert found and not found.won and "no interval" in sureness(found)
    alone = with_figures(like, {"fedmosaic": ([60, 62], [40, 41])})
    assert verdict(alone) == (
        "fedmosaic reaches 61.0 % on own tasks and 40.5 % on the other clients' tasks; there is nothing to compare it with."
    )


def test_an_oracle_does_not_compete(like: Section) -> None:
    section = with_figures(
        like,
        {
            "pooled": ([90, 91], [80, 81]),
            "sft": ([50, 52], [30, 33]),
            "fedmosaic": ([60, 62], [40, 43]),
        },
    )
    found = standing(section, "Self")
    assert found and found.leader == "fedmosaic" and found.won and found.next == "sft"


def test_who_learned_from_whom(like: Section) -> None:
    clients = like.scenario.clients
    weights = [[0, 0.8, 0.1, 0.1], [0.6, 0, 0.2, 0.2], [0.25, 0.25, 0, 0.5], [0.1, 0.2, 0.7, 0]]
    found = Relevance(["a", "b", "c", "d"], weights, weights)
    assert inside_share(found, clients) == (
        pytest.approx((0.8 + 0.6 + 0.5 + 0.7) / 4),
        pytest.approx(1 / 3),
    )
    one_group = [client.model_copy(update={"group": ""}) for client in clients]
    assert inside_share(found, one_group) is None

    run = replace(like.runs["fedmosaic"][0], relevance={0: found})
    section = Section("s", {"fedmosaic": {0: run, 1: run}})
    heard = listening(section, "fedmosaic")
    assert (
        heard
        and "65 ± 0 %" in heard.sentence
        and "33 %: clients listened to related peers" in heard.sentence
    )
    assert list(heard.pairs) == [("a", "b", 0.8), ("b", "a", 0.6), ("c", "d", 0.5), ("d", "c", 0.7)]
    assert listening(like, "sft") is None


def test_controls_are_told(like: Section) -> None:
    run = like.runs["fedmosaic"]
    kind = like.scenario.relevance.model_copy(update={"kind": "permuted"})
    control = {
        seed: replace(
            one,
            settings=one.settings.model_copy(
                update={"scenario": one.settings.scenario.model_copy(update={"relevance": kind})}
            ),
        )
        for seed, one in run.items()
    }
    (found,) = controls(
        Section("s", {"sft": like.runs["sft"], "fedmosaic": run, "permuted": control})
    )
    assert found.sentence == (
        "fedmosaic against permuted: +0.0 ± 0.0 points on own tasks (not to be told from zero), "
        "+0.0 ± 0.0 points on the other clients' tasks (not to be told from zero)."
    )
    assert controls(like) == []


def test_a_large_federation_stays_small_enough(like: Section) -> None:
    run = like.runs["fedmosaic"][0]
    names = [f"c{index}" for index in range(60)]
    clients = tuple(
        run.settings.scenario.clients[0].model_copy(update={"name": name}) for name in names
    )
    scenario = run.settings.scenario.model_copy(update={"clients": clients})
    rows = [[1 / 59] * 60] * 60
    big = replace(
        run,
        settings=run.settings.model_copy(update={"scenario": scenario}),
        relevance={number: Relevance(names, rows, rows) for number in range(100)},
    )
    matrix = relevance(Section("s", {"fedmosaic": {0: big, 1: big}}))
    assert matrix is not None and matrix.rounds[-1] == "round 100" and len(matrix.rounds) > 20
    assert (
        sum(len(cells) for frame in matrix.frames.values() for cells in frame["cells"])
        <= MOST + 60 * 60 * 2
    )
    assert matrix.first[0][:3] == [None, 17, 17] and re.search("not every round", matrix.caption)
