"""Test Self and Others against numbers computed by hand."""

from __future__ import annotations

from typing import Any

import pytest

from fedmosaic.config import ClientSpec
from fedmosaic.evaluation import Record, summarise
from fedmosaic.evaluation.summary import area

CLIENTS = [
    ClientSpec(name="a", model="m", tasks=["t1", "t2"], group="g"),  # type: ignore[arg-type]
    ClientSpec(name="b", model="n", tasks=["t3", "t1"], group="g"),  # type: ignore[arg-type]
    ClientSpec(name="c", model="n", tasks=["t4"], group="h"),  # type: ignore[arg-type]
]
LAST = {
    "a": {"t1": 0.8, "t2": 0.6, "t3": 0.4, "t4": 0.1},
    "b": {"t1": 0.5, "t2": 0.2, "t3": 0.9, "t4": 0.3},
    "c": {"t1": 0.0, "t2": 0.3, "t3": 0.6, "t4": 1.0},
}


def records(**changes: Any) -> list[Record]:
    return [
        Record(
            round=number,
            client=client,
            task=task,
            metric="accuracy",
            value=value * factor,
            n=10,
            **changes,
        )
        for number, factor in ((4, 0.5), (9, 1.0))
        for client, tasks in LAST.items()
        for task, value in tasks.items()
    ]


def test_self_and_others() -> None:
    found = summarise(records(), CLIENTS)
    a, b, c = (found["clients"][name] for name in "abc")
    assert a["self"]["last"] == pytest.approx(0.7)
    assert b["self"]["last"] == pytest.approx(0.7)  # t1 is its own too
    assert a["others"]["in_group"]["last"] == pytest.approx(0.4)  # t3; t1 is its own
    assert a["others"]["out_group"]["last"] == pytest.approx(0.1)
    assert a["others"]["last"] == pytest.approx(0.25)
    assert b["others"]["last"] == pytest.approx((0.2 + 0.3) / 2)
    assert c["others"]["in_group"]["last"] is None
    assert c["others"]["last"] == pytest.approx(0.3)
    assert found["self"]["last"] == pytest.approx((0.7 + 0.7 + 1.0) / 3)
    assert found["self"]["worst"] == pytest.approx(0.7)
    assert found["self"]["std"] == pytest.approx((2 * 0.1**2 + 0.2**2) ** 0.5 / 3**0.5)
    assert found["others"]["in_group"]["last"] == pytest.approx((0.4 + 0.2) / 2)
    assert found["tasks"]["t1"] == {
        "owners": ["a", "b"],
        "self": pytest.approx(0.65),
        "others": pytest.approx(0.0),
    }
    assert "unseen" not in found


def test_auc_is_the_area_over_the_rounds() -> None:
    assert area({4: 0.5, 9: 1.0}) == pytest.approx((4 * 0.5 + 5 * 0.75) / 9)
    assert area({3: 0.4}) == pytest.approx(0.4)
    assert area({0: 0.4}) == pytest.approx(0.4)
    assert area({0: 0.0, 1: 1.0, 2: 0.0}) == pytest.approx(0.5)
    found = summarise(records(), CLIENTS)
    assert found["self"]["auc"] == pytest.approx(found["self"]["last"] * (4 * 0.5 + 5 * 0.75) / 9)


def test_other_stages_and_views_do_not_mix_in() -> None:
    mixed = records()
    noise = [*records(stage="before"), *records(view="local")]
    assert summarise([*noise, *mixed], CLIENTS) == summarise(mixed, CLIENTS)
    assert summarise(records(view="local"), CLIENTS)["self"]["last"] is None


def test_unseen_tasks_are_summarised_separately() -> None:
    more = [Record(9, client, "t9", "accuracy", 0.5, 10) for client in "abc"]
    found = summarise([*records(), *more], CLIENTS)
    assert found["unseen"]["last"] == pytest.approx(0.5)
    assert found["others"] == summarise(records(), CLIENTS)["others"]


def test_a_record_survives_its_line() -> None:
    record = records()[0]
    assert Record.from_json({"kind": "score", **record.__dict__}) == record
