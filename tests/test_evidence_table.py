"""Check the tables and verdicts of the evidence on figures that are made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.accuracy import (
    evidence_claims,
    evidence_content,
    evidence_page,
    evidence_parts,
    evidence_picture,
    evidence_rows,
    evidence_short,
    evidence_table,
)
from benchmarks.accuracy.evidence_file import CONFLICTING, FIGURES
from benchmarks.accuracy.evidence_store import PartStore
from benchmarks.common.claims import verdict
from benchmarks.common.headroom import headroom_share
from benchmarks.common.tables import values_by_seed
from fedmosaic.experiments.statistics import Interval

UP, DOWN, UNCLEAR, LONE = (
    Interval(2, 1, 5),
    Interval(-2, 1, 5),
    Interval(1, 1, 5),
    Interval(9, None, 1),
)


@pytest.mark.parametrize(
    ("gaps", "expected"),
    [
        ([UP], "supported"),
        ([DOWN], "contradicted"),
        ([UNCLEAR], "inconclusive"),
        ([LONE], "inconclusive"),
        ([UP, UNCLEAR], "inconclusive"),
        ([UP, UNCLEAR, DOWN], "contradicted"),
    ],
)
def test_verdicts(gaps: list[Interval], expected: str) -> None:
    assert verdict(gaps) == expected


def run_of(own: float, others: float, seed: int) -> dict[str, Any]:
    """Return a stored run; its view ``global`` is a point lower on Self and higher on Others."""

    def view(change: float) -> dict[str, Any]:
        found = {column: others + seed + change for column in FIGURES}
        return {**found, "Self": own + seed - change, CONFLICTING: own + seed + 10, "clients": []}

    return {
        "settings": "",
        "steps": 12,
        "rounds": 8,
        "flops": {},
        "bytes": {"up": 2e6, "down": 0},
        "seconds": 1.0,
        "memory": 1,
        "views": {"mixed": view(0), "routed": view(1), "base": view(5)},
    }


MEANS = {
    "sft": (50, 30),
    "fedavg": (40, 36),
    "ditto": (70, 31),  # clearly above FedMosaic on Self
    "pooled": (75, 50),
    "fedmosaic": (60, 40),
}


def stored(seeds: tuple[int, ...] = (0, 1, 2)) -> dict[str, dict[int, Any]]:
    return {label: {s: run_of(*mean, s) for s in seeds} for label, mean in MEANS.items()}


def test_rows_show_the_views_of_their_runs() -> None:
    rows = evidence_content.compared_rows("static", stored())
    own = ["sft", "fedavg", "ditto", "pooled", "fedmosaic"]
    assert list(rows)[:5] == own
    assert set(rows) - set(own) == {f"{label}, routed" for label in own} | {"zero-shot"}
    assert rows["sft"]["Self"]["values"] == [50, 51, 52]
    assert rows["ditto, routed"]["Self"]["values"] == [69, 70, 71]
    assert rows["ditto, routed"]["Others"]["minus sft"]["mean"] == pytest.approx(2)
    assert rows["zero-shot"]["Others"]["values"] == [35, 36, 37]
    assert rows["sft"][CONFLICTING]["values"] == [60, 61, 62]


def test_a_claim_about_every_baseline_names_the_one_that_comes_closest() -> None:
    rows = evidence_content.compared_rows("static", stored())
    claims = {line["claim"]: line for line in evidence_content.judged_claims(rows)}
    local = claims["FedMosaic outperforms local training"]
    baselines = claims["FedMosaic outperforms every baseline"]
    assert local["Self"]["verdict"] == local["Others"]["verdict"] == "supported"
    assert local["Self"]["mean"] == local[CONFLICTING]["mean"] == pytest.approx(10)
    assert baselines["of"] == 2
    assert (baselines["Self"]["verdict"], baselines["Self"]["closest"]) == ("contradicted", "ditto")
    assert (baselines["Others"]["verdict"], baselines["Others"]["above"]) == ("supported", 2)


def test_shares_of_the_headroom() -> None:
    local, pooled = {0: 30.0, 1: 32.0, 2: 31.0}, {0: 50.0, 1: 50.0, 2: 53.0, 3: 99.0}
    half = {seed: (local[seed] + pooled[seed]) / 2 for seed in local}
    share = headroom_share(half, local, pooled)
    assert share is not None and share.n == 3
    assert share.mean == pytest.approx(50) and share.half == pytest.approx(0, abs=1e-9)
    # Gains 8, 12, 10 of 20, 18, 22: residuals from a half are −2, 3, −1, whose mean is 0.
    share = headroom_share({0: 38.0, 1: 44.0, 2: 41.0}, local, pooled)
    assert share is not None and share.half is not None
    deviation = ((4 + 9 + 1) / 2) ** 0.5
    assert share.mean == pytest.approx(50)
    assert share.half == pytest.approx(4.302653 * deviation / 3**0.5 / 20 * 100, rel=1e-5)


def test_there_is_no_share_where_the_headroom_is_hardly_known() -> None:
    local = {0: 30.0, 1: 32.0, 2: 31.0}
    assert headroom_share(local, local, {0: 40.0, 1: 31.0, 2: 31.0}) is None
    # Headroom of 4 ± 2.5, and of 6 ± 2.5: a share of the first would say nothing.
    assert headroom_share(local, local, {0: 33.0, 1: 37.0, 2: 35.0}) is None
    assert headroom_share(local, local, {0: 35.0, 1: 39.0, 2: 37.0}) is not None
    assert headroom_share(local, local, {3: 40.0}) is None


def test_the_page_shows_shares_routing_and_zero_shot() -> None:
    rows = evidence_content.compared_rows("static", stored())
    values = values_by_seed(rows)
    content = {
        "rows": rows,
        "chosen": {"sft": ["train.lr=2e-3"]},
        "headroom": evidence_content.headroom_shares(values),
        "claims": evidence_content.judged_claims(rows),
    }
    text = evidence_page.page({"static": content})
    lines = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in text.splitlines()}
    assert lines["fedmosaic"][5:7] == ["40.0 ± 0.0", "50.0 ± 0.0"]
    assert lines["sft"][5:7] == ["", ""] and lines["sft"][-2:] == ["2e-3", "2.0 / 0.0 |"]
    assert lines["ditto, routed"][7:9] == ["-1.0 ± 0.0", "+1.0 ± 0.0"]
    assert lines["zero-shot"][1] == "46.0 ± 2.5"
    short = evidence_short.short_table({"static": content, "unmatched": content}, variants=False)
    assert "unmatched" not in short and "| fedmosaic, routed |" in short


def test_rows_with_fewer_steps_at_equal_compute_are_shown_with_equal_steps() -> None:
    parts: dict[str, Any] = {}
    for part, steps in (("static", 9), ("unmatched", 12)):
        rows = evidence_content.compared_rows("static", stored())
        for label in ("fedmosaic", "fedmosaic, routed"):
            rows[label]["steps"] = steps
        headroom = evidence_content.headroom_shares(values_by_seed(rows))
        parts[part] = {"rows": rows, "headroom": headroom}
    parts["unmatched"]["rows"]["fedmosaic"]["Self"]["mean"] += 1
    first, _, *lines = evidence_short.steps_table(parts).splitlines()
    assert "| Self, equal steps |" in first and first.endswith("| steps at equal compute |")
    found = {line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ") for line in lines}
    assert list(found) == ["fedmosaic", "fedmosaic, routed", "sft"]  # fedavg has 12 in both
    heads = first.strip("| ").split(" | ")
    equal, matched = (
        found["fedmosaic"][heads.index(f"Self, equal {what}")] for what in ("steps", "compute")
    )
    assert float(equal[:4]) - float(matched[:4]) == 1
    assert found["fedmosaic"][-1] == "9" and found["sft"][-1] == "12"


def test_every_claim_is_about_rows_that_exist() -> None:
    claims = [claim for group in evidence_claims.CLAIMS.values() for claim in group]
    named = {label for claim in claims for label in (claim.label, *claim.above)}
    assert named <= evidence_content.SHOWN.keys()
    assert len({claim.text for claim in claims}) == len(claims)
    # The control views of experts are those that their algorithms have.
    for label in ("experts", "fedmosaic-experts"):
        row, _ = evidence_content.SHOWN[label]
        assert set(row.controls) <= set(row.views())


def test_the_picture_shows_the_parts_and_their_headroom() -> None:
    rows = evidence_content.compared_rows("static", stored())
    headroom = evidence_content.headroom_shares(values_by_seed(rows))
    parts = {part: {"rows": rows, "headroom": headroom} for part in ("static", "homogeneous")}
    text = evidence_picture.draw(parts)
    assert text == evidence_picture.draw(parts)
    for words in ("Three architectures", "One architecture", "fedavg", "ditto"):
        assert f"{words}" in text
    single = evidence_picture.draw({"static": parts["static"]})
    assert "One architecture" not in single and len(single) < len(text)


def test_earlier_parts_stay_published_until_new_ones_are_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence_rows, "ROWS", evidence_rows.ROWS[:2])
    stores = {part: PartStore(part, tmp_path) for part in evidence_parts.PARTS}
    with pytest.raises(ValueError, match="static lacks sft, fedavg"):
        evidence_table.published_parts({"static": {"rows": {}}}, stores, finished_rows=["static"])
