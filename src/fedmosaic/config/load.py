"""Find, extend and override scenario files, and explain what is wrong with one.

A scenario is a YAML file, shipped with the package (``miniature/hetero``) or the user's own (a
path). It may extend another one: mappings merge, everything else replaces. ``--set train.lr=1e-3``
changes one value by its dotted key. A ``.json`` file holds the same mapping, or a list of clients
as in the research release (:mod:`fedmosaic.config.release`).
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from fedmosaic.config import Scenario, Settings, renamed
from fedmosaic.config.release import from_release
from fedmosaic.errors import ConfigError, nearest

SCENARIOS = Path(__file__).parents[1] / "scenarios"
S = TypeVar("S", bound=BaseModel)


def scenario_names() -> list[str]:
    """Return the names of the scenarios that come with the package."""
    return sorted(
        str(path.relative_to(SCENARIOS).with_suffix("")) for path in SCENARIOS.rglob("*.yaml")
    )


def load_scenario(name: str | Path, overrides: Sequence[str] = ()) -> Scenario:
    """Read a scenario, with ``extends`` and overrides applied.

    Args:
        name: name of a shipped scenario, or path of a .yaml or .json file.
        overrides: single values, ``["train.lr=1e-3"]``.

    Raises:
        ConfigError: an unknown scenario or key (with the nearest valid names), a value of the
            wrong type or range, or bad YAML.
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


def parse(kind: type[S], content: Any, origin: str) -> S:
    """Validate ``content`` as ``kind``.

    Raises:
        ConfigError: names ``origin`` and the field at fault.
    """
    try:
        return kind.model_validate(content)
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
    content = _parsed(path)
    if path.suffix == ".json" and isinstance(content, list):
        shipped = cache(lambda known: _read(known, ())[0])
        return copy.deepcopy(from_release(content, path, scenario_names(), shipped)), name
    if not isinstance(content, dict):
        raise ConfigError(f"scenario {path} must be a mapping of settings")
    parent = content.pop("extends", None)
    if parent is not None:
        below = str(path.parent / parent) if (path.parent / parent).is_file() else str(parent)
        content = merge(_read(below, (*seen, str(path)))[0], content)
    root = content.get("data", {}).get("root") if isinstance(content.get("data"), dict) else None
    if (
        root
        and SCENARIOS not in path.parents
        and not Path(root).is_absolute()
        and (path.parent / root).is_dir()
    ):
        content["data"]["root"] = str(path.parent / root)
    return content, name


def _parsed(path: Path) -> Any:
    """Return the content of a YAML or JSON file."""
    kind = "JSON" if path.suffix == ".json" else "YAML"
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if kind == "JSON" else yaml.load(text, Loader=_Loader)
    except OSError as error:
        raise ConfigError(f"scenario {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(
            f"scenario {path} is not valid {kind}: {str(error).splitlines()[0]} {_line(error)}"
        ) from error


def _find(name: str) -> Path:
    if name.endswith((".yaml", ".yml", ".json")):
        path = Path(name).expanduser()
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


def _line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"(line {mark.line + 1})" if mark else ""


def apply_override(content: dict[str, Any], override: str) -> None:
    """Change one value of ``content`` in place.

    Args:
        content: nested mappings.
        override: ``dotted.key=value``, with the value as YAML.

    Raises:
        ConfigError: another form, a former key, or bad YAML.
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
    try:
        node[last] = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: the value is not valid YAML") from error


def _explain(kind: type[BaseModel], problem: Any, origin: str) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        section = f"{origin}." if re.match(r"align$|algorithms\.", origin) else ""
        if former := renamed.explain(section + where.removeprefix("scenario.")):
            return former
        parent = _model_at(kind, problem["loc"][:-1])
        known = list(parent.model_fields) if parent else []
        return f"unknown key {where!r}.{nearest(str(problem['loc'][-1]), known)}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"{where} is missing"
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


class _Loader(yaml.SafeLoader):
    """Read safe YAML in which ``1e-3`` is a number, as in JSON and Python."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"""^[-+]?(\d[\d_]*\.?\d*([eE][-+]?\d+)|\d*\.\d+([eE][-+]?\d+)?|\d+\.
        |\.(inf|Inf)|[-+]\.(inf|Inf)|\.(nan|NaN))$""",
        re.VERBOSE,
    ),
    list("-+0123456789."),
)
