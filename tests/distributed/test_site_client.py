"""Test that a client at its site answers and is exported as in a run of one process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from federation_of_sites import Server, new_sites, with_limits
from local_link import LocalLink
from safetensors.torch import load_file
from sites import site_of

import fedmosaic
from fedmosaic.cli import main
from fedmosaic.config import Scenario
from fedmosaic.errors import CheckpointError, ConfigError, DataError
from fedmosaic.federation.run_folder import RunFolder
from tiny_scenario import TINY

SCENARIO: dict[str, Any] = {
    **TINY,
    "rounds": 2,
    "clients": [client for client in TINY["clients"] if client["name"] in "abd"],
    "train": {**TINY["train"], "steps": 1},
    "evaluation": {"every": 0, "items": 4, "others": False, "views": ["mixed", "own"]},
    "routing": {"noise_std": 0.0},  # sites draw the noise of their prototypes in secret
}
PROMPTS = ["what is it? Options: cup, key", "Is the ball red?"]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run, ``here``, and ``a.yaml``, the file of a client at its site."""
    folder = tmp_path_factory.mktemp("both")
    fedmosaic.run(
        Scenario.model_validate(SCENARIO),
        algorithm="experts",
        out=folder / "here",
        progress=False,
        trackers=(),
        workers=1,
    )
    settings = RunFolder.open(folder / "here")[1]
    link = LocalLink(new_sites(settings, folder / "sites", ["a", "b", "d"]))
    Server(with_limits(settings), folder / "server", link).run()
    write(folder / "a.yaml", settings, folder / "sites" / "a")
    return folder


def write(path: Path, settings: Any, out: Path, **changes: Any) -> None:
    """Write the file of client a."""
    site = site_of(settings, "a", out=out).model_dump(mode="json", exclude_defaults=True)
    path.write_text(yaml.safe_dump({**site, **changes}))


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_client_at_its_site_answers_as_in_one_process(both: Path, prompt: str) -> None:
    options = ["cup", "key", "ball"]
    for view in (None, "own", "base"):
        here = fedmosaic.predict(both / "here", "a", prompt, options=options, view=view)
        there = fedmosaic.predict(both / "a.yaml", None, prompt, options=options, view=view)
        assert there == here and len(here[0].scores) == 3


@pytest.mark.parametrize("experts", [False, True])
def test_its_export_is_that_of_one_process(both: Path, tmp_path: Path, experts: bool) -> None:
    here = fedmosaic.export(both / "here", "a", tmp_path / "one", experts=experts)
    there = fedmosaic.export(both / "a.yaml", "a", tmp_path / "other" / "one", experts=experts)
    files = sorted(path.relative_to(here) for path in here.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(there) for path in there.rglob("*") if path.is_file())
    for file in files:
        if file.suffix == ".safetensors":
            one, other = load_file(here / file), load_file(there / file)
            assert one.keys() == other.keys() and all(one[k].equal(other[k]) for k in one)
        else:
            assert (there / file).read_text() == (here / file).read_text()
    card = (there / "README.md").read_text()
    assert experts or "Measured in the run after round 2." in card


def test_the_command_takes_a_clients_file(
    both: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(both / "a.yaml")
    question = ["--prompt", PROMPTS[0], "--option", "cup", "--option", "key"]
    assert main(["predict", file, *question, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answer"] in ("cup", "key")
    assert main(["export", file, "--out", str(tmp_path / "lora")]) == 0
    assert (tmp_path / "lora" / "adapter_config.json").is_file()


def test_what_is_no_trained_client_is_named(both: Path, tmp_path: Path) -> None:
    settings = RunFolder.open(both / "here")[1]
    write(tmp_path / "new.yaml", settings, tmp_path / "nothing")
    for source, client, error, text in [
        (tmp_path / "new.yaml", None, CheckpointError, "has trained in no round"),
        (both / "a.yaml", "b", ConfigError, "is the file of client 'a', not of 'b'"),
        (both / "sites" / "a", None, CheckpointError, "give the client's file in its place"),
        (both / "server", "a", CheckpointError, "give the client's file in place of the folder"),
        (both / "here", None, ConfigError, "name one of the clients of .*: a, b, d"),
        (both / "here", "e", ConfigError, "has no client 'e'"),
    ]:
        with pytest.raises(error, match=text):
            fedmosaic.predict(source, client, "what is it?")


def test_another_model_or_other_data_are_refused(both: Path, tmp_path: Path) -> None:
    settings, out = RunFolder.open(both / "here")[1], both / "sites" / "a"
    write(tmp_path / "model.yaml", settings, out, model="miniature/llama-8x96@1")
    with pytest.raises((CheckpointError, ConfigError), match=r"other weights|another model"):
        fedmosaic.predict(tmp_path / "model.yaml", None, "what is it?")
    write(tmp_path / "data.yaml", settings, out, tasks=["miniature/comic-0"])
    with pytest.raises(DataError, match="data has changed since the client joined"):
        fedmosaic.predict(tmp_path / "data.yaml", None, "what is it?")
