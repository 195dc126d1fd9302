"""Share the settings of a federation with its sites, and build a site's runtime from them.

The server sends all settings that are the federation's. A site adds what is its own: model, tasks,
where the data is, device. Neither sees the rest of the other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedmosaic.alignment.identity import plain_name
from fedmosaic.config import ClientSpec, RunSettings, SiteSettings
from fedmosaic.config.load import parse
from fedmosaic.data.registry import PUBLIC_SOURCES
from fedmosaic.distributed.published import aligner_for
from fedmosaic.errors import ConfigError, UpdateError, nearest
from fedmosaic.federation.pools import ModelPool
from fedmosaic.federation.runtime import Runtime

FORMAT = 1
# Of the run: what is recorded at the server, and what every machine decides for itself.
_NOT_SENT = {"threads", "workers", "trackers", "rehearsal", "settled", "deployed", "scenario"}
# Of the scenario: what sites decide, what only the server does, and the clients.
_SERVERS_OWN = {
    *("clients", "participation", "cohort", "clients_in_memory", "unseen", "task_kind"),
    *("replace_models", "models", "server", "budget", "defences", "deployment"),
}


def shared_settings(settings: RunSettings) -> dict[str, Any]:
    """Return what the server sends every site, in values that JSON can hold.

    ``settings`` are those of the federation, ``clients`` the architecture and rank of each client,
    ``architectures`` the fingerprint of each architecture's weights, and ``fingerprint`` 32 hex
    digits over ``settings``. Names of clients and their tasks are not in it.

    Args:
        settings: the run, settled.
    """
    scenario = settings.scenario
    content = settings.model_dump(mode="json", exclude=_NOT_SENT)
    content["scenario"] = scenario.model_dump(mode="json", exclude=_SERVERS_OWN)
    data = content["scenario"]["data"]
    data["public"] = _without_folders(data["public"], scenario.data.root)
    del data["root"]
    return {
        "format": FORMAT,
        "settings": content,
        "clients": [[client.model, scenario.rank_of(client.name)] for client in scenario.clients],
        "architectures": dict(settings.deployed.architectures) if settings.deployed else {},
        "fingerprint": fingerprint(content),
    }


def fingerprint(settings: Mapping[str, Any]) -> str:
    """Return 32 hex digits that identify a federation's settings."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def site_runtime(
    shared: Mapping[str, Any],
    site: SiteSettings,
    models: ModelPool | None = None,
    published: bytes = b"",
) -> tuple[Runtime, ClientSpec]:
    """Return what a site's client trains with, and the client.

    It trains as it would in a simulation of the whole federation: the same draws, batches and
    scores.

    Args:
        shared: what :func:`shared_settings` returned at the server.
        site: what the site says of itself.
        models: models that are loaded already, by the settings ``site.models``.
        published: what the pivot of the alignment published; empty where the server sent nothing.

    Raises:
        ConfigError: the server's settings are not those that the site requires, or the site does
            not name its copy of the public set.
        UpdateError: what came from the server is incomplete, damaged or of another version.
    """
    models = models or ModelPool(site.models)
    content = _checked(shared)
    _require(site, content)
    label = own_label(shared, site, models)
    pivot = content["scenario"]["alignment"]["pivot"]
    content |= {
        "scenario": _scenario(shared, content["scenario"], site, label),
        "threads": site.threads,
        "workers": 1,
        "trackers": [],
    }
    settings = parse(RunSettings, content, f"client {site.name}", recorded=True)
    models.show_time(settings.started)
    aligner = aligner_for(settings, shared["architectures"], pivot, label, published)
    runtime = Runtime(settings, models, aligner=aligner)
    return runtime, next(c for c in runtime.scenario.clients if c.name == site.name)


def _scenario(
    shared: Mapping[str, Any], content: Mapping[str, Any], site: SiteSettings, label: str
) -> dict[str, Any]:
    """Return the federation's scenario with what is the site's own."""
    names = {**site.replace_models, label: site.model}
    clients = _clients(shared, site, label, names)
    found = {
        **content,
        "clients": clients,
        "clients_in_memory": len(clients),
        "unseen": [spec.model_dump() for spec in site.others],
        "models": site.models.model_dump(),
    }
    root = None if site.data.root is None else str(site.data.root)
    own = {"root": root, "public": _public(content["data"]["public"], site)}
    found["data"] = {**content["data"], **own}
    if site.data.background is not None:
        found["data"]["background"] = site.data.background
    if site.evaluation_batch_size is not None:
        found["evaluation"] = {**content["evaluation"], "batch_size": site.evaluation_batch_size}
    for section, field in (("relevance", "model"), ("alignment", "pivot")):
        name = content[section][field]
        found[section] = {**content[section], field: names.get(name, name)}
    return found


def _public(name: str, site: SiteSettings) -> str:
    """Return where the site has the federation's public set.

    Raises:
        ConfigError: it is a file, and the site does not say which. What is computed from public
            data leaves the site, so that the server cannot choose a file there.
    """
    if name in ("none", *PUBLIC_SOURCES):
        return name
    if site.data.public is None:
        raise ConfigError(
            f"client {site.name}: the federation's public set is the file {name!r}: name this "
            "site's copy under data.public"
        )
    return site.data.public


def own_label(shared: Mapping[str, Any], site: SiteSettings, models: ModelPool) -> str:
    """Return the name of the site's architecture in the federation.

    It is found by the fingerprint of the weights, because two sites may name one model differently.

    Raises:
        ConfigError: the federation has no such model.
    """
    known: Mapping[str, str] = shared["architectures"]
    if not known:
        return plain_name(site.model)
    own = models.backbone(site.model).fingerprint
    found = next((label for label, weights in known.items() if weights == own), None)
    if found is None:
        raise ConfigError(
            f"client {site.name}: model {site.model!r} has other weights (fingerprint {own}) than "
            "when the client joined; the federation goes on with the model that it joined with"
        )
    return found


def _checked(shared: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of the settings that came from the server, unless they are damaged."""
    if shared.get("format") != FORMAT:
        raise UpdateError(
            f"the server's settings have format {shared.get('format')!r}, but this version reads "
            f"format {FORMAT}; install the server's version of fedmosaic"
        )
    content = shared.get("settings")
    if not isinstance(content, Mapping) or fingerprint(content) != shared.get("fingerprint"):
        raise UpdateError("the server's settings are damaged: they do not fit their fingerprint")
    scenario = content.get("scenario")
    sections = ("data", "evaluation", "relevance", "alignment", "adapter")
    parts = [scenario.get(name) for name in sections] if isinstance(scenario, Mapping) else [None]
    if not all(isinstance(part, Mapping) for part in (*parts, shared.get("architectures"))):
        raise UpdateError("the server's settings are incomplete")
    copied: dict[str, Any] = json.loads(json.dumps(content))
    return copied


def _require(site: SiteSettings, content: Mapping[str, Any]) -> None:
    """Raise ConfigError unless the federation's settings are as the site requires."""
    of_run = {name: value for name, value in content.items() if name != "scenario"}
    known = {**content["scenario"], **of_run}
    for name, wanted in site.requires.items():
        value: Any = known
        for part in name.split("."):
            if not isinstance(value, Mapping) or part not in value:
                hint = nearest(part, value if isinstance(value, Mapping) else ())
                raise ConfigError(f"client {site.name}: requires.{name}: no such setting.{hint}")
            value = value[part]
        if value != wanted:
            raise ConfigError(
                f"client {site.name}: requires.{name} is {wanted!r} here, but the federation has "
                f"{value!r}; ask for another federation, or change what the site requires"
            )


def _clients(
    shared: Mapping[str, Any], site: SiteSettings, label: str, names: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return the clients as a site knows them: itself, and the others' models and ranks."""
    rank = site.r or shared["settings"]["scenario"]["adapter"]["r"]
    rest = [[model, r] for model, r in shared["clients"] if model]
    if [label, rank] in rest:
        rest.remove([label, rank])
    own: dict[str, Any] = {"name": site.name, "model": site.model, "r": site.r}
    own["tasks"] = [spec.model_dump() for spec in site.tasks]
    free = (f"peer {number}" for number in range(len(rest) + 1))
    peers = [name for name in free if name != site.name]
    return [own] + [
        {"name": name, "model": names.get(model, model), "r": r}
        for name, (model, r) in zip(peers, rest, strict=False)
    ]


def _without_folders(public: str, root: Path | None) -> str:
    """Return the name of a public set without the folders of this machine."""
    path = Path(public)
    if not path.is_absolute():
        return public
    return str(path.relative_to(root)) if root and path.is_relative_to(root) else path.name
