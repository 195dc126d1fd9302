"""Test that the scenarios have DRAKE's structure: its counts, groups and recurring datasets."""

from __future__ import annotations

import json
from collections import defaultdict
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedmosaic.miniature.benchmark.load import find_recipe, task_names, unseen_names
from fedmosaic.miniature.pretraining.architectures import get_architecture

OFFICIAL = Path(__file__).parents[3].parent / "shared" / "official-scenarios"

FAMILY_OF = {
    "Fashion200K": "wardrobe", "FashionIQ": "outfit", "NLVR2": "mates", "CIRR": "journey",
    "VISION": "forge", "MagicBrush": "brush", "VSR": "compass", "SEED-Bench-2": "stages",
    "IRFL": "idiom", "Bongard-OpenWorld": "concept", "Bongard-HOI": "bond",
    "COMICS_Dialogue": "comic", "VizWiz": "vista", "MIT-States": "mood",
    "Co-Instruct-DB": "quality", "TQA": "lesson", "dvqa": "ledger", "iconqa": "icon",
    "WCVQA": "cuisine", "RecipeQA_ImageCoherence": "coherence", "RecipeQA_VisualCloze": "cloze",
    "Mantis_contrastive_caption": "caption", "HQ_Edit": "edit", "DreamSim": "likeness",
    "imagecode": "retrieve",
}  # fmt: skip
"""DRAKE's datasets and the families that stand in for them; subset numbers are DRAKE's."""


def scenario(name: str) -> dict[str, Any]:
    text = (resources.files("fedmosaic") / "scenarios" / "miniature" / f"{name}.yaml").read_text()
    loaded = yaml.safe_load(text)
    assert text.startswith("# ") and isinstance(loaded, dict)
    return loaded


def tasks_of(client: dict[str, Any]) -> list[str]:
    return [task.removeprefix("miniature/") for task in client["tasks"]]


@pytest.mark.parametrize("name", ["hetero", "homo-llama"])
def test_ten_clients_with_four_tasks_each(name: str) -> None:
    clients = scenario(name)["clients"]
    assert [client["name"] for client in clients] == [f"client-{k}" for k in range(10)]
    assert [client["group"] for client in clients] == ["relation"] * 3 + ["reasoning"] * 3 + [
        "qa"
    ] * 4
    used = [task for client in clients for task in tasks_of(client)]
    assert all(len(client["tasks"]) == 4 for client in clients)
    assert sorted(used) == sorted(task_names()) and len(set(used)) == 40
    for client in clients:
        assert all(find_recipe(task).group == client["group"] for task in tasks_of(client))


def test_counts() -> None:
    families = {find_recipe(name).family for name in task_names()}
    assert len(families) == 19
    kinds = [find_recipe(name).kind for name in task_names()]
    assert kinds.count("choice") == 38 and kinds.count("open") == 2
    assert len(unseen_names()) == 7


def test_recurring_families_live_in_both_model_families() -> None:
    homes: dict[str, set[str]] = defaultdict(set)
    clients: dict[str, set[str]] = defaultdict(set)
    for client in scenario("hetero")["clients"]:
        for task in tasks_of(client):
            family = find_recipe(task).family
            homes[family].add(get_architecture(client["model"]).family)
            clients[family].add(client["name"])
    recurring = {family for family, where in clients.items() if len(where) > 1}
    assert len(recurring) == 10
    assert all(homes[family] == {"llama", "qwen2"} for family in recurring), homes


def test_conflicting_families_live_apart() -> None:
    """Check that no client has two tasks with opposite conventions."""
    pairs = [
        ("outfit-0", "journey-0"),
        ("concept-1", "bond-1"),
        ("comic-0", "vista-0"),
        ("lesson-0", "ledger-0"),
    ]
    for client in scenario("hetero")["clients"]:
        for pair in pairs:
            assert len(set(pair) & set(tasks_of(client))) < 2


@pytest.mark.parametrize("name", ["dynamic", "unseen"])
def test_variants_extend_hetero(name: str) -> None:
    variant = scenario(name)
    assert variant["extends"] == "miniature/hetero" and "clients" not in variant
    assert variant.get("stream", "static") == ("dynamic" if name == "dynamic" else "static")
    if name == "unseen":
        assert [task.removeprefix("miniature/") for task in variant["unseen"]] == list(
            unseen_names()
        )


def test_quickstart_is_small_and_heterogeneous() -> None:
    clients = scenario("quickstart")["clients"]
    assert len(clients) == 4 and len({client["model"] for client in clients}) == 3
    for one, other in (clients[:2], clients[2:]):
        assert {find_recipe(task).family for task in (*tasks_of(one), *tasks_of(other))} in (
            {"stages"},
            {"idiom"},
        )
        assert one["model"] != other["model"]


@pytest.mark.skipif(
    not OFFICIAL.exists(), reason="DRAKE's own scenario files are not next to this checkout"
)
def test_incidence_is_drakes() -> None:
    official = json.loads((OFFICIAL / "DRAKE_hetero_llava_llama_1B_3B_qwen_1_5B.json").read_text())
    ours = scenario("hetero")["clients"]
    assert len(official) == len(ours)
    for theirs, client in zip(official, ours, strict=True):
        expected = [
            f"{FAMILY_OF[entry['dataset']]}-{entry['subset_id']}" for entry in theirs["datasets"]
        ]
        assert tasks_of(client) == expected
        kinds = [
            "open" if entry["type"] == "open-ended" else "choice" for entry in theirs["datasets"]
        ]
        assert [find_recipe(task).kind for task in expected] == kinds
    unseen = [
        f"{FAMILY_OF[entry['dataset']]}-{entry['subset_id']}"
        for name in ("newtasktype", "newvisualdomain")
        for client in json.loads((OFFICIAL / f"DRAKE_unseen_{name}.json").read_text())
        for entry in client["datasets"]
    ]
    assert unseen == list(unseen_names())
