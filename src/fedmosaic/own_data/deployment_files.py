"""Write a simulated scenario as the files of a deployment: the server's, and one a client."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fedmosaic.alignment.identity import plain_name
from fedmosaic.config import (
    ClientSpec,
    DeploymentSettings,
    RunSettings,
    Scenario,
    Settings,
    SiteSettings,
    TaskSpec,
)
from fedmosaic.data.registry import PUBLIC_SOURCES
from fedmosaic.errors import ConfigError
from fedmosaic.federation.located import located
from fedmosaic.federation.measure import measured_tasks
from fedmosaic.files import atomic_folder

SERVER_FILE = "server.yaml"
ADDRESS = "127.0.0.1:9092"
# Settings of a scenario that its server does not read, because each site sets its own.
_SITES_OWN = {"clients", "unseen", "task_kind", "models", "replace_models", "deployment"}


@dataclass(frozen=True)
class DeploymentFiles:
    """Hold what was written.

    Attributes:
        server: the scenario of the server.
        clients: the file of each client, by name.
    """

    server: Path
    clients: Mapping[str, Path]


def write_deployment(name: str, scenario: Scenario, folder: Path) -> DeploymentFiles:
    """Write ``server.yaml`` and ``clients/NAME.yaml``, by which each client has its own process.

    The federation then gives the numbers of the simulation.

    Args:
        name: of the scenario.
        scenario: names models and tasks of all clients.
        folder: the folder to make.

    Raises:
        ConfigError: a client has no model or tasks, or the folder exists.
    """
    scenario.require_models_and_tasks(name)
    if folder.exists():
        raise ConfigError(f"{folder} exists; name a folder that does not exist yet")
    scenario = located(RunSettings(name=name, scenario=scenario)).scenario
    with atomic_folder(folder) as work:
        (work / SERVER_FILE).write_text(_server_text(name, scenario, folder), encoding="utf-8")
        (work / "clients").mkdir()
        for client in scenario.clients:
            text = _client_text(name, scenario, client, folder)
            (work / "clients" / f"{client.name}.yaml").write_text(text, encoding="utf-8")
    clients = {one.name: folder / "clients" / f"{one.name}.yaml" for one in scenario.clients}
    return DeploymentFiles(folder / SERVER_FILE, clients)


# --- the server's file --------------------------------------------------------------------------
def _server_text(name: str, scenario: Scenario, folder: Path) -> str:
    names = shlex.quote(",".join(client.name for client in scenario.clients))
    lines = [
        f"# The server's scenario, made of {name} by `fedmosaic split`. Models and tasks are in",
        "# the files of the clients, which belong at their sites. Make keys, then serve:",
        f"#   fedmosaic keys {folder}/keys --clients {names}",
        f"#   fedmosaic server {folder}/{SERVER_FILE} --keys {folder}/keys --out {folder}/run",
    ]
    content = scenario.model_dump(mode="json", exclude_defaults=True, exclude=_SITES_OWN)
    content["clients"] = [_expected(client) for client in scenario.clients]
    if scenario.alignment != Scenario.model_fields["alignment"].default:
        content["alignment"]["method"] = scenario.alignment.method
    data = content.get("data", {})
    data.pop("root", None)
    if "public" in data:
        data["public"] = _public_name(scenario)
    for field in Scenario.model_fields:
        if field in content:
            lines += ["", *_commented(Scenario, field), *_yaml({field: content[field]})]
    lines += ["", *_commented(Scenario, "deployment"), "deployment:"]
    for field, value in scenario.deployment.model_dump(mode="json").items():
        lines += _indented([*_commented(DeploymentSettings, field), *_yaml({field: value})])
    return "\n".join(lines) + "\n"


def _expected(client: ClientSpec) -> str | dict[str, Any]:
    """Return what the server may know of a client before it joins."""
    more = {"r": client.r, "group": client.group}
    known = {key: value for key, value in more.items() if value}
    return {"name": client.name, **known} if known else client.name


def _public_name(scenario: Scenario) -> str:
    public = scenario.data.public
    is_file = public not in ("none", *PUBLIC_SOURCES)
    return Path(public).name if is_file and Path(public).is_absolute() else public


# --- a client's file ----------------------------------------------------------------------------
def _client_text(name: str, scenario: Scenario, client: ClientSpec, folder: Path) -> str:
    file = shlex.quote(f"{folder}/clients/{client.name}.yaml")
    lines = [
        f"# Client {client.name} of {name}, made by `fedmosaic split`. This file belongs at the",
        "# client's own site and stays there. Relative paths start from its folder. Start with:",
        f"#   fedmosaic client {file}",
    ]
    for field, value in _client_content(scenario, client).items():
        lines += ["", *_commented(SiteSettings, field), *_yaml({field: value})]
    lines += [
        "",
        "# What may leave the site beyond P, Q and signatures; all of it by default.",
        "# share: {lora: false, metrics: false, task_names: false}",
        "",
        "# Settings of the federation without which this client takes no part.",
        "# requires: {relevance.clip: 1.0}",
    ]
    return "\n".join(lines) + "\n"


def _client_content(scenario: Scenario, client: ClientSpec) -> dict[str, Any]:
    """Return the settings of a client's site."""
    data = scenario.data
    own: dict[str, Any] = {"name": client.name, "model": client.model, "r": client.r}
    own["tasks"] = _tasks(client.tasks)
    if scenario.evaluation.others:
        own["others"] = _tasks(measured_tasks(scenario, client))
    place = {"root": None if data.root is None else str(data.root)}
    if data.public not in ("none", *PUBLIC_SOURCES):
        place["public"] = str((data.root or Path()) / data.public)
    own["data"] = {key: value for key, value in place.items() if value}
    own["models"] = scenario.models.model_dump(mode="json", exclude_defaults=True)
    own["replace_models"] = _copies(scenario, client)
    own["server"] = ADDRESS
    own["keys"] = f"../keys/clients/{client.name}"
    own["out"] = f"../sites/{client.name}"
    return {key: value for key, value in own.items() if value}


def _tasks(tasks: Sequence[TaskSpec]) -> list[Any]:
    written = [task.model_dump(mode="json", exclude_none=True) for task in tasks]
    return [task["name"] if list(task) == ["name"] else task for task in written]


def _copies(scenario: Scenario, client: ClientSpec) -> dict[str, str]:
    """Return where models of other clients are that are folders: the server may name them."""
    others = [name for name in scenario.models_used if name != client.model]
    return {plain_name(name): name for name in others if plain_name(name) != name}


# --- lines --------------------------------------------------------------------------------------
def _commented(kind: type[Settings], field: str) -> Iterator[str]:
    """Yield the first sentences of a field's description as comments."""
    description = str(kind.model_fields[field].description).split("\n\n")[0]
    for line in description.replace("``", "").replace("None: ", "null: ").splitlines():
        yield f"# {line}"


def _yaml(content: Mapping[str, Any]) -> list[str]:
    """Return settings as YAML, mappings and lists in one line where they fit."""
    flow = None if any(isinstance(value, list | dict) for value in content.values()) else False
    text: str = yaml.safe_dump(
        dict(content), default_flow_style=flow, sort_keys=False, allow_unicode=True, width=96
    )
    return text.rstrip("\n").splitlines()


def _indented(lines: Sequence[str]) -> Iterator[str]:
    yield from (f"  {line}" for line in lines)
