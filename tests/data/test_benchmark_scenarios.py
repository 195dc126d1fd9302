"""Test that the scenarios of the real benchmarks load and are the published ones."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fedmosaic.config.load import load_scenario
from fedmosaic.data.easy_vqa import TASKS

# The scenario files of the research release, which are not part of this package.
OFFICIAL = Path(
    os.environ.get(
        "FEDMOSAIC_OFFICIAL_SCENARIOS", Path(__file__).parents[3] / "shared/official-scenarios"
    )
)
METRICS = {"F1": "f1", "RougeL": "rouge_l"}
PUBLISHED_AS = {
    "drake/hetero-llama-1b-3b": "DRAKE_hetero_llava_llama_1B_3B",
    "drake/hetero-llama-1b-3b-8b": "DRAKE_hetero_llava_llama_1B_3B_8B",
    "drake/hetero-llama-1b-3b-qwen-1.5b": "DRAKE_hetero_llava_llama_1B_3B_qwen_1_5B",
    "drake/hetero-llama-qwen": "DRAKE_hetero_llava_llama_3B_qwen_1_5B",
    "drake/hetero-llama-3b-qwen-1.5b-3b": "DRAKE_hetero_llava_llama_3B_qwen_1_5B_3B",
    "drake/hetero-qwen-0.5b-1.5b-3b": "DRAKE_hetero_llava_qwen_0_5B_1_5B_3B",
    "drake/homo-llama-1b": "DRAKE_homo_llava_llama_1B",
    "drake/homo-llama-3b": "DRAKE_homo_llava_llama_3B",
    "drake/homo-llama-8b": "DRAKE_homo_llava_llama_8B",
    "drake/homo-qwen-0.5b": "DRAKE_homo_llava_qwen_0_5B",
    "drake/homo-qwen-1.5b": "DRAKE_homo_llava_qwen_1_5B",
    "drake/homo-qwen-3b": "DRAKE_homo_llava_qwen_3B",
    "hflb/hetero-llama-1b-3b": "HFLB_hetero_llava_llama_1B_3B",
    "hflb/homo-llama-1b": "HFLB_homo_llava_llama_1B",
    "hflb/homo-llama-3b": "HFLB_homo_llava_llama_3B",
    "fed-scope": "Fed-Scope_hetero_llama_3B_8B",
    "fed-aya": "Fed-aya_hetero_llama_1B_3B",
    "fed-llm-large": "Fed-LLM_hetero_llama_1B_3B",
}
SIZES = {
    "drake": (10, 40),
    "hflb": (9, 36),
    "fed-scope": (5, 20),
    "fed-aya": (8, 32),
    "fed-llm-large": (52, 104),
}


@pytest.mark.parametrize("name", PUBLISHED_AS)
def test_clients_tasks_and_settings(name: str) -> None:
    scenario = load_scenario(name)
    clients, tasks = SIZES[name.partition("/")[0]]
    names = [task.name for client in scenario.clients for task in client.tasks]
    assert (len(scenario.clients), len(names), len(set(names))) == (clients, tasks, tasks)
    assert scenario.stream == "dynamic" and scenario.rounds == 5 * tasks // clients
    assert scenario.data.root is not None
    text = name.startswith("fed-")
    assert (scenario.adapter.r, scenario.train.schedule) == (
        (16, "cosine") if text else (128, "constant")
    )
    assert len(scenario.unseen) == (7 if name.startswith("drake") else 0)


@pytest.mark.parametrize("name", PUBLISHED_AS)
def test_equal_to_the_published_scenario(name: str) -> None:
    path = OFFICIAL / f"{PUBLISHED_AS[name]}.json"
    if not path.is_file():
        pytest.skip("the published scenario files are not here")
    scenario = load_scenario(name)
    published = json.loads(path.read_text())
    assert [client.name for client in scenario.clients] == [
        f"client-{entry['client_id']}" for entry in published
    ]
    for client, entry in zip(scenario.clients, published, strict=True):
        assert client.model == entry["model_id"]
        ours = [(task.name, task.kind or "choice", task.metric) for task in client.tasks]
        theirs = [
            (
                f"{task['dataset']}-{task['subset_id']}",
                "choice" if task["type"] == "multi-choice" else "open",
                METRICS[task["metric"]] if "metric" in task else None,
            )
            for task in entry["datasets"]
        ]
        assert ours == theirs


def test_unseen_tasks_are_the_published_ones() -> None:
    paths = [OFFICIAL / f"DRAKE_unseen_{kind}.json" for kind in ("newtasktype", "newvisualdomain")]
    if not all(path.is_file() for path in paths):
        pytest.skip("the published scenario files are not here")
    published = [
        task
        for path in paths
        for client in json.loads(path.read_text())
        for task in client["datasets"]
    ]
    unseen = load_scenario("drake/hetero-llama-1b-3b").unseen
    assert [task.name for task in unseen] == [
        f"{task['dataset']}-{task['subset_id']}" for task in published
    ]


def test_easy_vqa_names_tasks_that_exist_and_all_architectures() -> None:
    scenario = load_scenario("easy-vqa")
    assert set(scenario.models_used) == {
        "miniature/llama-8x96",
        "miniature/llama-12x128",
        "miniature/qwen2-10x112",
    }
    names = [task.name for client in scenario.clients for task in client.tasks]
    assert len(names) == len(set(names)) and set(names) <= {f"easy-vqa/{name}" for name in TASKS}
    groups = {client.group: set[str]() for client in scenario.clients}
    for client in scenario.clients:
        groups[client.group].add(client.model)
    assert all(len(models) == 2 for models in groups.values())
