"""Test what a site says of itself, and that nothing else can be read from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fedmosaic.config import ModelSettings, SiteSettings
from fedmosaic.distributed.facts import read_facts, site_facts, task_labels
from fedmosaic.errors import UpdateError
from fedmosaic.federation.pools import ModelPool

POOL = ModelPool(ModelSettings())


def site(**changes: Any) -> SiteSettings:
    own = {"name": "a", "model": "miniature/llama-8x96", "tasks": ["miniature/stages-0"]}
    return SiteSettings.model_validate({**own, **changes})


def test_tasks_are_named_without_folders(tmp_path: Path) -> None:
    tasks = [str(tmp_path / "scans"), "/elsewhere/scans", "miniature/stages-0"]
    labels = task_labels(site(tasks=tasks, data={"root": tmp_path}))
    assert list(labels.values()) == ["scans", "scans-2", "miniature/stages-0"]


def test_facts_hold_no_folder_and_no_data(tmp_path: Path) -> None:
    own = site(data={"root": tmp_path}, out=tmp_path / "out", server="somewhere:1")
    text = json.dumps(site_facts(own, POOL).model_dump(mode="json"))
    assert str(tmp_path) not in text and "somewhere" not in text and len(text) < 2000
    hidden = own.model_copy(update={"share": own.share.model_copy(update={"task_names": False})})
    assert site_facts(hidden, POOL).tasks == ("a task 1",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "site x: it describes itself in format 2"),
        ({"weights": "../x"}, "site x: weights"),
        ({"parameters": -1}, "site x: parameters"),
        ({"layers": [[99]]}, "site x: layers: a number of a module that is not there"),
        ({"more": 1}, "site x: unknown key 'more'"),
        ({"name": "n" * 1000}, "site x: name"),
    ],
)
def test_wrong_facts_are_refused(change: dict[str, Any], message: str) -> None:
    facts = site_facts(site(), POOL)
    content = facts.model_dump(mode="json")
    assert read_facts(content, "site x") == facts
    with pytest.raises(UpdateError, match=f"^{message}"):
        read_facts({**content, **change}, "site x")
    with pytest.raises(UpdateError, match=r"^site x"):
        read_facts([1], "site x")
