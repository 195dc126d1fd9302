"""Test that a client at its own site trains and scores as in a simulation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sites import Sites, site_of

from fedmosaic.config import RunSettings
from fedmosaic.config.load import load_scenario
from fedmosaic.distributed.shared import shared_settings, site_runtime
from fedmosaic.errors import ConfigError, UpdateError
from fedmosaic.federation.callbacks import Callback
from fedmosaic.federation.round_loop import RoundLoop
from fedmosaic.federation.run import resolve
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.transport import InProcess, Transport

TIMES = ("seconds", "parts", "memory")


def settings_of(scenario: str, *overrides: str) -> RunSettings:
    return RunSettings(name=scenario, trackers=(), scenario=load_scenario(scenario, overrides))


def outcome(runtime: Runtime, transport: Transport, folder: Path) -> tuple[list[Any], list[bytes]]:
    """Run; return the metrics without times, and the bytes of all clients' states and adapters."""
    run = RunFolder.vacant(folder)
    run.create(runtime.settings)
    RoundLoop(runtime, transport, run, Callback()).run()
    transport.save(folder / "states")()
    transport.save_adapters(folder / "adapters")
    lines = [{k: v for k, v in line.items() if k not in TIMES} for line in run.lines()]
    files = sorted([*folder.glob("states/*"), *folder.glob("adapters/*/*/*.safetensors")])
    return lines, [path.read_bytes() for path in files]


def test_sites_give_the_numbers_of_a_simulation(tmp_path: Path) -> None:
    short = ("rounds=2", "train.steps=2", "algorithms.fedmosaic.steps=2", "relevance.every=2")
    few = ("evaluation.every=2", "evaluation.last_items=4")
    settings = resolve(Runtime(settings_of("miniature/quickstart", *short, *few)))
    simulated = Runtime(settings)
    expected = outcome(simulated, InProcess(simulated), tmp_path / "simulated")
    names = [client.name for client in settings.scenario.clients]
    sites = Sites(settings, [site_of(settings, name) for name in names])
    found = outcome(Runtime(settings), sites, tmp_path / "sites")
    assert len(expected[1]) == 4 + 2 * 4 and found == expected


def test_shared_settings_hold_no_client_task_or_folder(tmp_path: Path) -> None:
    overrides = (f"data.root={tmp_path}", f"data.public={tmp_path}/open/public.jsonl")
    settings = settings_of("miniature/quickstart", *overrides)
    shared = shared_settings(settings)
    text = json.dumps(shared)
    for secret in ("client-0", "stages", "idiom", str(tmp_path), "miniature/llama-12x128/"):
        assert secret not in text
    assert shared["settings"]["scenario"]["data"]["public"] == "open/public.jsonl"
    assert shared["clients"][1] == ["miniature/qwen2-10x112", 16]


def test_the_server_decides_what_the_federation_shares() -> None:
    settings = settings_of("miniature/quickstart", "data.test=7", "models.device=cuda")
    site = site_of(settings, "client-0", threads=2, models={"dtype": "float32"})
    runtime, spec = site_runtime(shared_settings(settings), site)
    assert runtime.scenario.data.test == 7 and runtime.scenario.train == settings.scenario.train
    assert runtime.settings.seed == settings.seed and runtime.settings.threads == 2
    assert runtime.scenario.models.device == "auto" and runtime.scenario.models.dtype == "float32"
    assert spec.name == "client-0" and runtime.scenario.clients[0] == spec
    others = [(client.model, client.tasks) for client in runtime.scenario.clients[1:]]
    assert others == [(c.model, ()) for c in settings.scenario.clients[1:]]


def test_the_servers_names_of_models_lead_to_local_copies() -> None:
    settings = settings_of("miniature/quickstart", "relevance.model=sig", "alignment.pivot=piv")
    site = site_of(settings, "client-1", replace_models={"sig": "/copies/sig", "piv": "/copies/p"})
    runtime, _ = site_runtime(shared_settings(settings), site)
    assert runtime.scenario.relevance.model == "/copies/sig"
    assert runtime.scenario.alignment.pivot == "/copies/p"


@pytest.mark.parametrize(
    ("requires", "message"),
    [
        ({"train.steps": 21}, "requires.train.steps is 21 here, but the federation has 20"),
        ({"relevance.clip": 1.0}, "requires.relevance.clip is 1.0 here, .* has None"),
        ({"routing.noise_std": 20.0}, "requires.routing.noise_std is 20.0 here, .* has 0.0001"),
        ({"seed": 4}, "requires.seed is 4 here, but the federation has 0"),
        ({"train.stepz": 1}, "requires.train.stepz: no such setting. Did you mean 'steps'"),
        ({"train.steps.x": 1}, "requires.train.steps.x: no such setting"),
    ],
)
def test_a_site_takes_part_only_as_it_requires(requires: dict[str, Any], message: str) -> None:
    settings = settings_of("miniature/quickstart")
    with pytest.raises(ConfigError, match=f"^client client-0: {message}"):
        site_runtime(shared_settings(settings), site_of(settings, "client-0", requires=requires))
    agreed = {"train.steps": 20, "algorithm": "fedmosaic", "rounds": 5}
    site_runtime(shared_settings(settings), site_of(settings, "client-0", requires=agreed))


def test_damaged_settings_are_refused() -> None:
    settings = settings_of("miniature/quickstart")
    site = site_of(settings, "client-0")
    shared = shared_settings(settings)
    shared["settings"]["scenario"]["train"]["steps"] = 7
    with pytest.raises(UpdateError, match="do not fit their fingerprint"):
        site_runtime(shared, site)
    with pytest.raises(UpdateError, match="format 9"):
        site_runtime({**shared, "format": 9}, site)
    with pytest.raises(UpdateError, match="damaged"):
        site_runtime({"format": 1}, site)
