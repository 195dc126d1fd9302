"""Read the file of a client's own site, with options of the command laid over it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedmosaic.config.load import apply_override, merge, parse
from fedmosaic.config.paths import change_paths, expand_paths
from fedmosaic.config.scenario import Scenario
from fedmosaic.config.site import SiteDataSettings, SiteSettings
from fedmosaic.config.yaml_text import read_yaml
from fedmosaic.errors import ConfigError

# Settings that are a path, or a name in whose place a path may stand. ``*``: every item.
NAMES = ("tasks.*", "tasks.*.name", "others.*", "others.*.name")
MODELS = ("model", "replace_models.*", "data.public")
FOLDERS = ("data.root", "keys", "out")
PATHS = (*NAMES, *MODELS, *FOLDERS)


def load_site(
    path: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
) -> SiteSettings:
    """Read what a site says of itself. All folders in the result are absolute.

    Args:
        path: a YAML file; its relative paths start from its own folder. None: there is no file.
        options: settings that replace the file's; relative paths start from the working folder.
        overrides: single values, ``["models.device=cuda"]``; applied last, paths as ``options``.

    Raises:
        ConfigError: the file cannot be read, a setting is unknown, wrong or the federation's, or a
            path has a variable that is not set.
    """
    origin = str(path) if path is not None else "client"
    content: dict[str, Any] = {}
    if path is not None:
        content = _in_full(_read(Path(path)), origin, Path(path).absolute().parent)
    given = dict(options or {})
    for override in overrides:
        apply_override(given, override)
    content = merge(content, _in_full(given, "client", Path.cwd()))
    home = Path(path).absolute().parent if path is not None else Path.cwd()
    data = content.setdefault("data", {})
    if isinstance(data, dict) and data.get("root") is None:
        data["root"] = str(home)
    _refuse_settings_of_the_federation(content, origin)
    site = parse(SiteSettings, content, origin)
    out = Path(os.path.normpath(site.out or home / site.name))
    return site.model_copy(update={"out": out})


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"client file {path} does not exist")
    content = read_yaml(path, "client")
    if not isinstance(content, dict):
        raise ConfigError(
            f"client {path} must be a mapping of settings, one `key: value` a line: name, model, "
            "tasks, …"
        )
    return content


def _in_full(content: dict[str, Any], origin: str, home: Path) -> dict[str, Any]:
    """Return the content with variables in place and relative paths started from ``home``."""

    def full(field: str, text: str) -> str:
        place = home / text
        return str(place) if field in FOLDERS or place.exists() else text

    expand_paths(content, origin, PATHS)
    change_paths(content, full, (*MODELS, *FOLDERS))
    return content


def _refuse_settings_of_the_federation(content: Mapping[str, Any], origin: str) -> None:
    """Raise ConfigError for a setting that only the server can set."""
    shared = set(Scenario.model_fields) | {"algorithm", "seed", "extends"}
    found = [key for key in content if key not in SiteSettings.model_fields and key in shared]
    data = content.get("data")
    if isinstance(data, Mapping):
        found += [f"data.{key}" for key in data if key not in SiteDataSettings.model_fields]
    if found:
        raise ConfigError(
            f"{origin}: {found[0]}: the server sets it for the whole federation; leave it out. To "
            "take part only with certain values, name them under requires, e.g. requires: "
            "{train.steps: 50}"
        )
