"""Run the scenario files of the research release on a small DRAKE with tiny models.

The default suite takes two of the twelve; ``FEDMOSAIC_ALL_FAMILIES=1`` takes all, both streams.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fedmosaic import api
from fedmosaic.config import Scenario
from fedmosaic.config.load import load_scenario
from fedmosaic.federation.run import Run
from tests.drake.release_files import MODELS, OPEN, write
from tests.drake.tiny_models import build_models
from tests.drake.tree import write_tree
from tests.families.sample import ALL

CROSS_FAMILY = "DRAKE_hetero_llava_llama_1B_3B_qwen_1_5B"
RUNS = [(CROSS_FAMILY, "dynamic"), ("DRAKE_homo_llava_qwen_0_5B", "static")]
if ALL:
    names = [name for name in MODELS if name.startswith("DRAKE")]
    RUNS = [(name, stream) for name in names for stream in ("dynamic", "static")]
SMALL = [
    "train.steps=1",
    "train.batch_size=2",
    "algorithms={fedmosaic: {steps: 1}}",
    "adapter.r=4",
    "adapter.alpha=8",
    "data.public=synthetic",
    "data.public_size=4",
    "evaluation.every=0",
    "evaluation.others=false",
    "unseen=[]",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drake")
    write_tree(folder / "DRAKE", train=2, test=1)
    (folder / "models.json").write_text(json.dumps(build_models(folder / "models")))
    return folder


def scenario_of(name: str, stream: str, place: Path) -> Scenario:
    """Return the scenario of a file of the release, on the small DRAKE with tiny models."""
    path = write(name, place)
    used = {entry["model_id"] for entry in json.loads(path.read_text())}
    table = json.loads((place / "models.json").read_text())
    models = json.dumps({name: folder for name, folder in table.items() if name in used})
    own = [f"data.root={place / 'DRAKE'}", f"stream={stream}", f"replace_models={models}"]
    rounds = 4 if stream == "dynamic" else 1
    with pytest.warns(UserWarning, match="scenario file of the research release"):
        return load_scenario(path, [*SMALL, *own, f"rounds={rounds}"])


def start(scenario: Scenario, out: Path, **more: Any) -> Run:
    return api.run(scenario, out=out, workers=1, progress=False, trackers=[], **more)


@pytest.mark.parametrize(("name", "stream"), RUNS, ids=lambda part: part)
def test_a_file_of_the_release_runs(name: str, stream: str, place: Path, tmp_path: Path) -> None:
    scenario = scenario_of(name, stream, place)
    assert len(scenario.models_used) == len(set(MODELS[name]))
    summary = start(scenario, tmp_path / "run").summary
    assert summary["rounds"] == {"done": scenario.rounds, "of": scenario.rounds}
    records = [
        json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    ]
    for client in scenario.clients:
        tasks = [task.name for task in client.tasks]
        found = summary["clients"][client.name]["tasks"]
        assert sorted(found) == sorted(tasks)
        assert all(0 <= value <= 1 for value in found.values())
    measured = {r["task"]: r["metric"] for r in records if "task" in r and "metric" in r}
    assert {task for task, metric in measured.items() if metric == "f1"} == set(OPEN)


@pytest.mark.skipif(not ALL, reason="takes half a minute")
def test_the_unseen_tasks_are_learned_after_a_run(place: Path, tmp_path: Path) -> None:
    scenario = scenario_of("DRAKE_homo_llava_llama_1B", "static", place)
    base = load_scenario("drake/hetero-llama-1b-3b")
    start(scenario.model_copy(update={"unseen": base.unseen}), tmp_path / "run")
    measured = []
    api.adapt(
        tmp_path / "run",
        clients=["client-0"],
        every=1,
        points=1,
        on_result=lambda client, task, *rest: measured.append(task),
    )
    assert sorted(measured) == sorted(task.name for task in base.unseen)
