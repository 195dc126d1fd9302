"""Check the benchmark of language models without running any: its small form and its tables."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.accuracy.language_models import (
    CLAIMS,
    LABELS,
    SCENARIO,
    costs,
    losses_and_similarities,
    rows_of,
    run_of,
    small_scenario,
    table,
)
from benchmarks.common.claims import judge
from benchmarks.common.tables import COLUMNS, values_by_seed


def test_the_small_form_is_a_related_pair_of_both_families() -> None:
    one, other = small_scenario().clients
    assert one.group == other.group and one.model != other.model
    assert small_scenario().budget.kind == "flops" and small_scenario().rounds == 1


def test_the_page_shows_time_memory_and_choices(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    for number, name in enumerate(LABELS):
        for seed in (0, 1)[: 2 - number // 3]:  # of the variants one seed has finished
            run = run_of(folder, name, seed).path
            run.mkdir(parents=True)
            summary = {
                "algorithm": name,
                "steps": 10,
                "rounds": {"of": 8},
                "flops": None,
                "bytes": {"up": 0, "down": 0},
                "seconds": {"total": 600.2 + seed},
                "memory": int(3.21e9),
                "self": {"last": 0.5 + 0.05 * number + seed / 50},
                "others": {"last": 0.3, "in_group": {"last": 0.4}, "out_group": {"last": 0.2}},
            }
            (run / "summary.json").write_text(json.dumps(summary))
    per_seed, rows = costs(folder, [0, 1]), rows_of(folder, [0, 1])
    assert per_seed["0"]["seconds"] == dict.fromkeys(LABELS, 600)
    assert per_seed["1"]["memory"] == {"sft": 3.21, "fedavg": 3.21, "fedmosaic": 3.21}
    assert list(rows) == ["sft", "fedavg", "fedmosaic"] and rows["fedmosaic"]["Self"]["values"] == [
        60.0,
        62.0,
    ]
    tried = [
        {"settings": [lr], "self": own, "others": 40.0} for lr, own in (("a", 50.0), ("b", 60.0))
    ]
    choices = {
        "sft": {"candidates": [*tried, {"settings": ["c"], "failed": "NaN"}], "chosen": ["b"]}
    }
    content = {
        "command": "the command",
        "scenarios": {SCENARIO: rows},
        "runs": per_seed,
        "training": {},
        "claims": judge(values_by_seed(rows), CLAIMS, COLUMNS),
        "own group": {"equal": 21.4, "fedmosaic": 30.04},
        "choices": choices,
    }
    lines = table(content).splitlines()
    assert "| 0 | " + "600 s, 3.2 GB | " * 5 + "50 |" in lines
    assert "| 1 | " + "601 s, 3.2 GB | " * 3 + " |  | 30 |" in lines
    verdicts = " | ".join(["supported (+10.0 ± 0.0)", *["inconclusive (+0.0 ± 0.0)"] * 3])
    assert f"| FedMosaic outperforms local training | {verdicts} |" in lines
    assert "| sft | 50.0 / 40.0 | **60.0 / 40.0** | failed |" in lines


def test_losses_of_the_last_rounds_and_similarities_by_kind(tmp_path: Path) -> None:
    run = tmp_path / "fedmosaic" / "seed-0"
    run.mkdir(parents=True)
    turns = [
        {"kind": "client", "round": number, "loss": loss}
        for number, loss in ((0, 9.0), (1, 3.0), (2, 1.0))
    ]
    similarity = [[i + j / 10 for j in range(8)] for i in range(8)]
    aggregated = {"kind": "round", "round": 2, "relevance": {"similarity": similarity}}
    (run / "metrics.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in [*turns, aggregated])
    )
    found = losses_and_similarities(tmp_path, [0])["0"]
    assert found["loss"] == {"fedmosaic": 2.0}
    # Clients 0-2 ask for latitudes and 3-5 what a word is. Clients 6 and 7 ask the same questions
    # and answer by other conventions.
    assert found["similarity"]["same kind"] == [2.15, 0.1, 4.5]
    assert found["similarity"]["other convention"] == [3.15, 0.6, 5.7]
    assert found["similarity"]["other question"][1:] == [0.3, 6.7]
