"""Check that the page claims no more than paired intervals support."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fedmosaic.reporting.html import matrices
from fedmosaic.reporting.html.collect import collect
from fedmosaic.reporting.html.matrices import MAX_CELLS, relevance_matrix, task_matrix
from fedmosaic.reporting.html.page import left_out
from fedmosaic.reporting.html.peers import favoured_peers, own_group_share, relevance_controls
from fedmosaic.reporting.html.run_data import RoundRelevance, RunData, _relevance
from fedmosaic.reporting.html.sections import Section, sections
from fedmosaic.reporting.html.tables import relevance_table
from fedmosaic.reporting.html.verdict import headline, verdict_on


@pytest.fixture
def like(original_folder: Path) -> Section:
    (section,) = sections(collect([original_folder]))
    return section


def with_figures(
    like: Section, figures: Mapping[str, tuple[Sequence[float], Sequence[float]]]
) -> Section:
    """Return the section with these values of Self and Others, one for each seed."""
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
    verdicts = [found for column in ("Self", "Others") if (found := verdict_on(section, column))]
    return headline(verdicts, len(section.seeds))


def test_a_winner_is_above_every_other(like: Section) -> None:
    section = with_figures(
        like,
        {
            "sft": ([50, 52, 54], [30, 32, 34]),
            "fedavg": ([40, 41, 44], [35, 37, 39]),
            "fedmosaic": ([60, 61, 63], [40, 42, 45]),
        },
    )
    # 60 − 50, 61 − 52, 63 − 54: mean 9.33, s = 0.577, t(0.975, 2) = 4.303, half-width 1.43;
    # 40 − 35, 42 − 37, 45 − 39: mean 5.33 and the same half-width.
    assert verdict(section) == (
        "fedmosaic is best on both: +9.3 ± 1.4 points on own tasks (second: sft) and "
        "+5.3 ± 1.4 points on the other clients' tasks (second: fedavg)."
    )
    found = verdict_on(section, "Others")
    assert found and found.is_win
    assert found.over_local and found.over_local.mean == pytest.approx(31 / 3)
    assert found.certainty == "Supported: significantly above 2 of 2 (95 %)."


def test_no_winner_where_one_interval_reaches_zero(like: Section) -> None:
    figures = {
        "sft": ([50, 52, 54], [30, 32, 34]),
        "fedavg": ([50, 51, 54], [35, 45, 37]),
        "fedmosaic": ([51, 51.5, 53], [40, 42, 45]),
    }
    section = with_figures(like, figures)
    assert verdict(section).startswith(
        "Inconclusive with 3 seeds. Highest: sft on own tasks (+0.2 "
    )
    found = verdict_on(section, "Others")
    # Significantly above local training but not above the second best: no win, and both are said.
    assert found and not found.is_win
    assert list(found.rivals) == ["fedavg"] and list(found.beaten) == ["sft"]
    assert found.certainty == (
        "Inconclusive: significantly above 1 of 2 (95 %): sft; fedavg may be as good."
    )

    both = with_figures(like, {"sft": ([50, 52], [30, 33]), "fedmosaic": ([55, 52], [35, 33])})
    assert verdict(both).startswith("Inconclusive with 2 seeds. Highest: fedmosaic on both, ")
    mixed = with_figures(
        like, {"sft": ([50, 52, 54], [30, 32, 34]), "fedmosaic": ([60, 62, 64.1], [30, 35, 33])}
    )
    assert verdict(mixed).startswith(
        "On own tasks fedmosaic is best (+10.0 ± 0.1 points over sft); "
        "on the other clients' tasks inconclusive"
    )


def test_a_win_over_the_next_best_is_not_enough(like: Section) -> None:
    steady, wild, best = (
        ([50, 51, 52], [30] * 3),
        ([20, 49, 78], [30] * 3),
        ([53, 54, 55.1], [30] * 3),
    )
    found = verdict_on(
        with_figures(like, {"sft": steady, "fedavg": wild, "fedmosaic": best}), "Self"
    )
    assert (
        found
        and found.second == "sft"
        and found.margin
        and found.margin.mean - (found.margin.half or 0) > 0
    )
    assert not found.is_win and list(found.rivals) == ["fedavg"]


def test_one_seed_or_one_algorithm_tells_nothing(like: Section) -> None:
    one = with_figures(like, {"sft": ([50], [30]), "fedmosaic": ([90], [20])})
    assert verdict(one).startswith("Inconclusive with one seed. Highest: fedmosaic on own tasks")
    assert "+40.0 points over sft" in verdict(one)
    found = verdict_on(one, "Self")
    assert found and not found.is_win
    assert found.certainty == "Inconclusive: one seed gives no interval."
    single = with_figures(like, {"fedmosaic": ([60, 62], [40, 41])})
    assert verdict(single) == (
        "fedmosaic reaches 61.0 % on own tasks and 40.5 % on the other clients' tasks."
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
    found = verdict_on(section, "Self")
    assert found and found.best == "fedmosaic" and found.is_win and found.second == "sft"


def test_favoured_peers(like: Section) -> None:
    clients = like.scenario.clients
    weights = [[0, 0.8, 0.1, 0.1], [0.6, 0, 0.2, 0.2], [0.25, 0.25, 0, 0.5], [0.1, 0.2, 0.7, 0]]
    found = RoundRelevance(["a", "b", "c", "d"], weights, weights)
    assert own_group_share(found, clients) == (
        pytest.approx((0.8 + 0.6 + 0.5 + 0.7) / 4),
        pytest.approx(1 / 3),
    )
    one_group = [client.model_copy(update={"group": ""}) for client in clients]
    assert own_group_share(found, one_group) is None

    run = replace(like.runs["fedmosaic"][0], relevance={0: found})
    section = Section("s", {"fedmosaic": {0: run, 1: run}})
    peers = favoured_peers(section, "fedmosaic")
    assert peers and "65 ± 0 %" in peers.sentence and "(equal weights: 33 %)" in peers.sentence
    assert peers.sentence.endswith("Clients favour their own group: supported.")
    assert list(peers.pairs) == [("a", "b", 0.8), ("b", "a", 0.6), ("c", "d", 0.5), ("d", "c", 0.7)]
    assert favoured_peers(like, "sft") is None


def test_the_largest_weights_of_many_clients_are_read(
    like: Section, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = like.scenario.clients[0]
    names = ["a", "b", "c", "d"]
    clients = [
        spec.model_copy(update={"name": name, "group": group})
        for name, group in zip(names, ["x", "x", "y", "y"], strict=True)
    ]
    relevance = {
        "clients": names,
        "peers": [[1, 2], [0, 2], [3], [2, 0]],
        "weights": [[0.8, 0.2], [0.6, 0.4], [1.0], [0.7, 0.3]],
        "similarity": [[0.9, 0.1], [0.9, 0.1], [0.5], [0.5, 0.0]],
    }
    (found,) = _relevance([{"kind": "round", "round": 3, "relevance": relevance}]).values()
    assert own_group_share(found, clients) == (pytest.approx(0.775), pytest.approx(1 / 3))
    run = replace(like.runs["fedmosaic"][0], relevance={0: found})
    section = Section("s", {"fedmosaic": {0: run}})
    peers = favoured_peers(section, "fedmosaic")
    assert peers and peers.pairs[2] == ("c", "d", 1.0) and relevance_matrix(section) is None
    tasks = task_matrix(section)
    assert tasks is not None
    (sentence,) = left_out(section, {"tasks": tasks})
    assert "largest weights" in sentence
    monkeypatch.setattr(matrices, "MAX_CELLS", 1)
    assert task_matrix(section) is None and len(left_out(section, {})) == 2
    rows = relevance_table(section).rows
    assert ["fedmosaic", 0, 1, "a", "c", 0.2, 0.1] in rows and len(rows) == 7
    for name, value in (("weights", [[1.0]] * 4), ("peers", [[4, 2], [0, 2], [3], [2, 0]])):
        with pytest.raises(ValueError, match=r"metrics.jsonl"):
            _relevance([{"kind": "round", "round": 3, "relevance": {**relevance, name: value}}])


def test_controls_are_compared(like: Section) -> None:
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
    (found,) = relevance_controls(
        Section("s", {"sft": like.runs["sft"], "fedmosaic": run, "permuted": control})
    )
    assert found.sentence == (
        "Gain of fedmosaic over permuted: +0.0 ± 0.0 points on own tasks (inconclusive), "
        "+0.0 ± 0.0 points on the other clients' tasks (inconclusive)."
    )
    assert relevance_controls(like) == []


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
        relevance={number: RoundRelevance(names, rows, rows) for number in range(100)},
    )
    matrix = relevance_matrix(Section("s", {"fedmosaic": {0: big, 1: big}}))
    assert matrix is not None and matrix.rounds[-1] == "round 100" and len(matrix.rounds) > 20
    assert (
        sum(len(cells) for frame in matrix.frames.values() for cells in frame["cells"])
        <= MAX_CELLS + 60 * 60 * 2
    )
    assert (
        matrix.first[0][:3] == [None, 17, 17]
        and "rounds and single seeds are left out" in matrix.caption
    )
