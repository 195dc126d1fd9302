"""The benchmark of real language models, without running any: its small form, and what it tells of time and memory."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from language_models import ALGORITHMS, costs, learned, small_scenario, table  # noqa: E402

from fedmosaic.evaluation.comparison import compare_summaries  # noqa: E402


def test_the_small_form_is_a_related_pair_of_both_families() -> None:
    one, other = small_scenario().clients
    assert one.group == other.group and one.model != other.model
    assert small_scenario().budget.kind == "flops" and small_scenario().rounds == 1


def test_time_and_memory_of_every_seed_are_told(tmp_path: Path) -> None:
    summaries: dict[str, dict[int, dict[str, object]]] = {name: {} for name in ALGORITHMS}
    for number, name in enumerate(ALGORITHMS):
        for seed in (0, 1)[: 2 - number // 2]:  # the last run has not finished
            run = tmp_path / name / f"seed-{seed}"
            run.mkdir(parents=True)
            summary = {
                "algorithm": name, "steps": 10, "rounds": {"of": 8}, "flops": None, "bytes": {"up": 0, "down": 0},
                "seconds": {"total": 600.2 + seed}, "memory": int(3.21e9), "self": {"last": 0.5 + 0.1 * number + seed / 50},
            }  # fmt: skip
            summaries[name][seed] = summary
            (run / "summary.json").write_text(json.dumps(summary))
    per_seed = costs(tmp_path, [0, 1])
    assert per_seed["0"]["seconds"] == {"sft": 600, "fedavg": 600, "fedmosaic": 600}
    assert per_seed["1"] == {"seconds": {"sft": 601, "fedavg": 601}, "memory": {"sft": 3.21, "fedavg": 3.21}}
    lines = table("the command", compare_summaries(summaries), per_seed, {}).splitlines()
    assert "| 0 | 600 s, 3.2 GB | 600 s, 3.2 GB | 600 s, 3.2 GB | 30 |" in lines
    assert "| 1 | 601 s, 3.2 GB | 601 s, 3.2 GB |  | 20 |" in lines


def test_losses_of_the_last_rounds_and_similarities_by_kind_are_told(tmp_path: Path) -> None:
    run = tmp_path / "fedmosaic" / "seed-0"
    run.mkdir(parents=True)
    turns = [{"kind": "client", "round": number, "loss": loss} for number, loss in ((0, 9.0), (1, 3.0), (2, 1.0))]
    similarity = [[i + j / 10 for j in range(8)] for i in range(8)]
    aggregated = {"kind": "round", "round": 2, "relevance": {"similarity": similarity}}
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*turns, aggregated]))
    found = learned(tmp_path, [0])["0"]
    assert found["loss"] == {"fedmosaic": 2.0}
    # Clients 0-2 ask for latitudes, 3-5 what a word is; 6 and 7 ask the same and answer by other conventions.
    assert found["similarity"]["same kind"] == [2.15, 0.1, 4.5]
    assert found["similarity"]["other convention"] == [3.15, 0.6, 5.7]
    assert found["similarity"]["other question"][1:] == [0.3, 6.7]
