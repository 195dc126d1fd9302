"""Test that a simulation becomes the files of a deployment with the same numbers."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedmosaic.cli import main
from fedmosaic.config import RunSettings, Scenario, SiteSettings
from fedmosaic.config.load import load_scenario, override
from fedmosaic.config.site_file import load_site
from fedmosaic.distributed.facts import site_facts
from fedmosaic.distributed.joining import settle
from fedmosaic.distributed.refusals import served
from fedmosaic.distributed.shared import shared_settings, site_runtime
from fedmosaic.federation.measure import measured_tasks
from fedmosaic.federation.pools import ModelPool
from fedmosaic.federation.run import resolve
from fedmosaic.federation.runtime import Runtime
from tiny_scenario import TINY


def split(scenario: str, out: Path, *more: str) -> tuple[Scenario, dict[str, SiteSettings]]:
    assert main(["split", scenario, "--out", str(out), *more]) == 0
    files = sorted((out / "clients").iterdir())
    return load_scenario(out / "server.yaml"), {path.stem: load_site(path) for path in files}


def test_the_files_describe_the_simulated_federation(tmp_path: Path) -> None:
    server, sites = split("miniature/quickstart", tmp_path / "quick", "--set", "relevance.top_k=2")
    scenario = load_scenario("miniature/quickstart", ["relevance.top_k=2"])
    simulated = RunSettings(name="quick", scenario=scenario)
    pool = ModelPool(scenario.models)
    settings = served(RunSettings(name="quick", scenario=server))
    settled = settle(settings, [site_facts(site, pool) for site in sites.values()])
    expected = resolve(Runtime(simulated, pool))
    assert settled.scenario == expected.scenario and settled.signature == expected.signature
    for name, site in sites.items():
        runtime, spec = site_runtime(shared_settings(settled), site, pool)
        known = next(one for one in scenario.clients if one.name == name)
        assert (spec.model, spec.tasks) == (known.model, known.tasks)
        assert measured_tasks(runtime.scenario, spec) == measured_tasks(scenario, known)
        assert site.keys == tmp_path / "quick" / "clients/../keys/clients" / name


def test_the_server_learns_no_model_task_or_folder(tmp_path: Path) -> None:
    root = tmp_path / "private-place"
    root.mkdir()
    (root / "open.jsonl").write_text("{}\n")
    (tmp_path / "our-net").mkdir()
    content: dict[str, Any] = {
        **TINY,
        "data": {"root": str(root), "public": str(root / "open.jsonl"), "train": 3},
        "models": {"dtype": "float32"},
        "clients": [
            {"name": "a", "model": str(tmp_path / "our-net"), "r": 2, "tasks": ["ward-7"]},
            {"name": "b b", "model": "m", "tasks": [{"name": "0123", "kind": "open"}]},
        ],
        "alignment": {"method": "gradients"},
    }
    (tmp_path / "fed.yaml").write_text(yaml.safe_dump(content))
    server, sites = split(str(tmp_path / "fed.yaml"), tmp_path / "out")
    text = (tmp_path / "out/server.yaml").read_text()
    for secret in ("private-place", "ward-7", "0123", "our-net", "float32"):
        assert secret not in text
    assert server.data.public == "open.jsonl" and server.data.train == 3
    assert server.alignment == override(server, ["alignment={}"], "").alignment
    assert [(c.name, c.r) for c in server.clients] == [("a", 2), ("b b", None)]
    assert sites["a"].data.root == root and sites["a"].data.public == str(root / "open.jsonl")
    assert sites["a"].models.dtype == "float32" and sites["a"].r == 2
    assert sites["b b"].replace_models == {"our-net": str(tmp_path / "our-net")}
    assert sites["b b"].tasks[0].name == "0123" and sites["b b"].tasks[0].kind == "open"


@pytest.mark.parametrize("scenario", ["drake/hetero-llama-1b-3b", "miniature/cross-family"])
def test_shipped_scenarios_can_be_split(scenario: str, tmp_path: Path) -> None:
    server, sites = split(scenario, tmp_path / "out")
    original = load_scenario(scenario)
    changed = ("clients", "unseen", "models", "data", "task_kind")
    rest = {name: value for name, value in server if name not in changed}
    assert rest == {name: value for name, value in original if name not in changed}
    assert {c.name: c.model for c in original.clients} == {n: s.model for n, s in sites.items()}


def test_the_command_says_what_to_type(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a place"
    split("miniature/quickstart", out)
    lines = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    commands = [line[:2] for line in lines if line[:1] == ["fedmosaic"]]
    assert commands == [["fedmosaic", name] for name in ("keys", "server", *["client"] * 4)]
    assert main(["split", "miniature/quickstart", "--out", str(out)]) == 2
    assert "exists; name a folder" in capsys.readouterr().err
    assert main(["split", str(out / "server.yaml"), "--out", str(tmp_path / "b")]) == 2
    assert "clients.0.model: client 'client-0' has none" in capsys.readouterr().err
