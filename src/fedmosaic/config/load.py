"""Find, extend and override scenario files, and explain what is wrong with one.

A scenario is a YAML file, shipped with the package (``miniature/hetero``) or the user's own (a
path). It may extend another one: mappings merge, everything else replaces. ``--set train.lr=1e-3``
changes one value by its dotted key. A ``.json`` file holds the same mapping, or a list of clients
as in the research release (:mod:`fedmosaic.config.release`). Paths are expanded as the shell does
(:mod:`fedmosaic.config.paths`).
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from fedmosaic.config import Scenario, Settings, renamed
from fedmosaic.config.base import RECORDED
from fedmosaic.config.paths import expand, expand_paths
from fedmosaic.config.release import CLIENT_FIELDS, from_release
from fedmosaic.config.yaml_text import parse_yaml, read_yaml
from fedmosaic.errors import ConfigError, nearest

_BEGINNING = 20_000  # characters
SCENARIOS = Path(__file__).parents[1] / "scenarios"
S = TypeVar("S", bound=BaseModel)


def scenario_names() -> list[str]:
    """Return the names of the scenarios that come with the package."""
    return sorted(
        str(path.relative_to(SCENARIOS).with_suffix("")) for path in SCENARIOS.rglob("*.yaml")
    )


def is_scenario(name: str) -> bool:
    """Return whether a name is a shipped scenario's or the path of a scenario's file.

    A ``.json`` file may also be a data file. It is taken for a scenario if its beginning has the
    fields of one.
    """
    lowered = name.lower()
    if name in scenario_names() or lowered.endswith((".yaml", ".yml")):
        return True
    if not lowered.endswith(".json") or not Path(expand(name)).is_file():
        return False
    with open(expand(name), encoding="utf-8-sig", errors="replace") as file:
        beginning = file.read(_BEGINNING).lstrip()
    if beginning.startswith("["):
        return all(f'"{field}"' in beginning for field in CLIENT_FIELDS)
    return beginning.startswith("{") and any(f'"{f}"' in beginning for f in ("clients", "extends"))


def load_scenario(name: str | Path, overrides: Sequence[str] = ()) -> Scenario:
    """Read a scenario, with ``extends`` and overrides applied.

    Args:
        name: name of a shipped scenario, or path of a .yaml or .json file.
        overrides: single values, ``["train.lr=1e-3"]``.

    Raises:
        ConfigError: an unknown scenario or key (with the nearest valid names), a value of the
            wrong type or range, a path with a variable that is not set, or bad YAML (with the
            line).
    """
    content, origin = _read(str(name), ())
    for override in overrides:
        apply_override(content, override)
    return parse(Scenario, content, origin)


def override(scenario: Scenario, overrides: Sequence[str], origin: str) -> Scenario:
    """Return the scenario with ``key=value`` overrides applied.

    Raises:
        ConfigError: as :func:`load_scenario`; the message begins with ``origin``.
    """
    content = scenario.model_dump(mode="json")
    for change in overrides:
        apply_override(content, change)
    return parse(Scenario, content, origin)


def parse(kind: type[S], content: Any, origin: str, *, recorded: bool = False) -> S:
    """Validate ``content`` as ``kind``.

    Args:
        kind: the settings to make.
        content: nested mappings and lists.
        origin: begins messages, e.g. the name of the file.
        recorded: whether a run folder holds the content; names of clients are then as they are.

    Raises:
        ConfigError: names ``origin`` and the field at fault.
    """
    try:
        return kind.model_validate(content, context=RECORDED if recorded else None)
    except ValidationError as error:
        first = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
        raise ConfigError(f"{origin}: {_explain(kind, first, origin)}") from None


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` updated by ``change``: mappings merge, everything else replaces."""
    result = copy.deepcopy(dict(base))
    for key, value in change.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), dict):
            result[key] = merge(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def _read(name: str, seen: tuple[str, ...]) -> tuple[dict[str, Any], str]:
    path = _find(name)
    if str(path) in seen:
        raise ConfigError(
            f"{name}: scenarios extend each other in a circle: " + " -> ".join([*seen, str(path)])
        )
    content = read_yaml(path, "scenario")
    if path.suffix == ".json" and isinstance(content, list):
        shipped = cache(lambda known: _read(known, ())[0])
        return copy.deepcopy(from_release(content, path, scenario_names(), shipped)), name
    if not isinstance(content, dict):
        found = {list: "a list", type(None): "nothing"}.get(type(content), "a single value")
        raise ConfigError(
            f"scenario {path} must be a mapping of settings, one `key: value` a line; it holds "
            f"{found}"
        )
    content = _in_new_names(content, path)
    expand_paths(content, name)
    parent = content.pop("extends", None)
    if parent is not None:
        if not isinstance(parent, str):
            raise ConfigError(f"{name}: extends = {parent!r}: name one scenario or file")
        below = str(path.parent / parent) if (path.parent / parent).is_file() else parent
        content = merge(_read(below, (*seen, str(path)))[0], content)
    data = content.get("data")
    root = data.get("root") if isinstance(data, dict) else None
    if isinstance(root, str) and SCENARIOS not in path.parents and (path.parent / root).is_dir():
        content["data"]["root"] = str(path.parent / root)
    return content, name


def _in_new_names(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return a scenario's content with settings that were only renamed under their new names.

    Raises:
        ConfigError: the file has the former and the new name of one setting.
    """
    renamed_content, found = renamed.rename(content, str(path))
    if found:
        names = ", ".join(f"{former} is now {new}" for former, new in found)
        warnings.warn(f"{path} has former names of settings: {names}; change them", stacklevel=2)
    return renamed_content


def _find(name: str) -> Path:
    if name.lower().endswith((".yaml", ".yml", ".json")):
        path = Path(expand(name))
        if not path.is_file():
            raise ConfigError(f"scenario file {name} does not exist")
        return path
    path = SCENARIOS / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(
            f"unknown scenario {name!r}.{nearest(name, scenario_names())} "
            "`fedmosaic list scenarios` shows all; a file of your own ends in .yaml or .json"
        )
    return path


def apply_override(content: dict[str, Any], override: str) -> None:
    """Change one value of ``content`` in place.

    Args:
        content: nested mappings.
        override: ``dotted.key=value``, with the value as YAML.

    Raises:
        ConfigError: another form, a former key, bad YAML, or a path that cannot be expanded.
    """
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"--set {override}: write it as key=value, e.g. --set train.lr=1e-3")
    *path, last = key.strip().split(".")
    if former := renamed.explain(key.strip()):
        raise ConfigError(f"--set {override}: {former}")
    node = content
    for part in path:
        child = node.setdefault(part, {})
        if not isinstance(child, dict):
            way_out = ": edit its entries in the scenario's file" * isinstance(child, list)
            kind = "a list" if way_out else "not a section"
            raise ConfigError(f"--set {override}: {part!r} is {kind}{way_out}")
        node = child
    value = parse_yaml(text, f"--set {override}: the value")
    changed: dict[str, Any] = {last: value}
    for part in reversed(path):
        changed = {part: changed}
    expand_paths(changed, f"--set {override}")
    for part in path:
        changed = changed[part]
    node[last] = changed[last]


def _explain(kind: type[BaseModel], problem: Any, origin: str) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        section = f"{origin}." if re.match(r"align$|algorithms\.", origin) else ""
        if former := renamed.explain(section + where.removeprefix("scenario.")):
            return former
        parent = _model_at(kind, problem["loc"][:-1])
        known = list(parent.model_fields) if parent else []
        return f"unknown key {where!r}.{nearest(str(problem['loc'][-1]), known)}"
    if former := renamed.explain_value(where.removeprefix("scenario."), problem.get("input")):
        return former
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"{where} is missing"
    if problem["type"] == "string_type" and isinstance(problem["input"], int | float):
        message += "; put it in quotes"
    if problem["type"] in ("model_type", "dict_type"):
        message = "expected a section of settings, one `key: value` a line"
    if problem["type"] == "tuple_type":
        message = "expected a list"
    if not where:
        return message
    return f"{where} = {problem.get('input')!r}: {message[0].lower()}{message[1:]}"


def _model_at(kind: type[BaseModel], path: Sequence[Any]) -> type[BaseModel] | None:
    current: Any = kind
    for part in path:
        if isinstance(part, int):
            continue
        field = current.model_fields.get(part)
        if field is None:
            return None
        found = re.findall(r"\w+", str(field.annotation))
        sections = {cls.__name__: cls for cls in Settings.__subclasses__()}
        current = next((sections[word] for word in found if word in sections), None)
        if current is None:
            return None
    return current  # type: ignore[no-any-return]
