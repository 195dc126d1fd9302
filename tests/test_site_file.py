"""Test the file of a client's own site: paths, options of the command, and mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from fedmosaic.config.site_file import load_site
from fedmosaic.errors import ConfigError

SITE: dict[str, Any] = {"name": "a", "model": "miniature/llama-8x96", "tasks": ["mine"]}


def site_file(folder: Path, **more: Any) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "client-a.yaml"
    path.write_text(yaml.safe_dump({**SITE, **more}))
    return path


def test_paths_start_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "site"
    for folder in ("weights", "copies/small"):
        (home / folder).mkdir(parents=True)
    monkeypatch.setenv("PLACE", "copies")
    path = site_file(
        home,
        model="weights",
        keys="keys",
        data={"root": "data"},
        replace_models={"small": "$PLACE/small", "hub": "org/model"},
    )
    site = load_site(path)
    assert site.model == str(home / "weights") and site.keys == home / "keys"
    assert site.data.root == home / "data" and site.out == home / "a"
    assert site.replace_models == {"small": str(home / "copies/small"), "hub": "org/model"}
    assert [task.name for task in site.tasks] == ["mine"] and site.others == ()


def test_options_of_the_command_replace_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = site_file(tmp_path / "site", keys="keys", server="one:1")
    monkeypatch.chdir(tmp_path)
    given = {"server": "two:2", "keys": "other", "data": {"root": "here"}}
    site = load_site(path, given, ["models.device=cpu", "share.lora=false"])
    assert site.server == "two:2" and site.keys == tmp_path / "other"
    assert site.data.root == tmp_path / "here" and site.models.device == "cpu"
    assert not site.share.lora and site.share.metrics


def test_no_file_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    site = load_site(options=SITE)
    assert site.data.root == tmp_path and site.out == tmp_path / "a"
    with pytest.raises(ConfigError, match=r"^client: model is missing"):
        load_site(options={"name": "a", "tasks": ["mine"]})


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"train": {"lr": 1}}, "train: the server sets it for the whole federation"),
        ({"rounds": 3}, "rounds: the server sets it"),
        ({"data": {"test": 3}}, "data.test: the server sets it"),
        ({"modle": "x"}, "unknown key 'modle'. Did you mean 'model'"),
        ({"share": {"lorra": True}}, "unknown key 'share.lorra'. Did you mean 'lora'"),
        ({"tasks": []}, r"tasks = \[\]"),
        ({"name": "a/b"}, "name = 'a/b': the character '/'"),
        ({"keys": "$NO_SUCH_PLACE/x"}, "keys = .*the variable NO_SUCH_PLACE is not set"),
    ],
)
def test_mistakes_name_file_and_setting(tmp_path: Path, more: Any, message: str) -> None:
    path = site_file(tmp_path / "site", **more)
    with pytest.raises(ConfigError, match=f"^{path}: {message}"):
        load_site(path)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load_site(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(ConfigError, match="must be a mapping"):
        load_site(tmp_path / "list.yaml")
