"""Read YAML and JSON as people write them; every mistake names the line.

Words are read as YAML 1.2 reads them: only ``true`` and ``false`` are booleans, so that a client
may be named ``no``. A number with a leading zero, a time and a date stay text. ``1e-3`` is a
number, as in JSON and Python.
"""

from __future__ import annotations

import codecs
import json
import re
from pathlib import Path
from typing import Any

import yaml

from fedmosaic.errors import ConfigError

_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_yaml(path: Path, what: str) -> Any:
    """Return the content of a YAML or ``.json`` file, UTF-8, or UTF-16 with a byte-order mark.

    Args:
        path: the file.
        what: what the file is, to begin messages with, e.g. ``scenario``.

    Raises:
        ConfigError: the file cannot be read, is no text, is no YAML or JSON, has a key twice in one
            section, or a key that is no text. The message names the file and the line.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{what} {path} cannot be read: {error.strerror}") from error
    try:
        text = raw.decode("utf-16" if raw.startswith(_MARKS) else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"{what} {path} is not UTF-8 text (line {line}): save it as UTF-8"
        ) from error
    if path.suffix.lower() == ".json":
        return _parse_json(text, f"{what} {path}")
    return parse_yaml(text, f"{what} {path}")


def _parse_json(text: str, origin: str) -> Any:
    twice: list[str] = []

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        twice.extend(name for name in dict.fromkeys(names) if names.count(name) > 1)
        return dict(pairs)

    try:
        content = json.loads(text, object_pairs_hook=mapping)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{origin} is not valid JSON: {error.msg} (line {error.lineno})"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{origin} is not valid JSON: {error}") from error
    if twice:
        # JSON is YAML, whose reader knows the lines. No text in JSON holds a tab as it is.
        parse_yaml(text.replace("\t", " "), origin)
        raise ConfigError(f"{origin}: the key {twice[0]!r} stands twice in one section")
    return content


def parse_yaml(text: str, origin: str) -> Any:
    """Return the value that a text spells in YAML.

    Raises:
        ConfigError: as :func:`read_yaml`; the message begins with ``origin``.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{origin} is not valid YAML: {_reason(error, text)}") from error


def _reason(error: Exception, text: str) -> str:
    """Return what is wrong and in which line, in one line."""
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f"a character that no text has, number {error.character:#x} (line {line})"
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    if "'\\t'" in problem:
        problem = "a tab stands where a line or value begins; indent with blanks"
    if not mark:
        return problem
    if "${" in text.split("\n")[mark.line]:
        problem += "; put a value with ${NAME} in quotes"
    return f"{problem} (line {mark.line + 1})"


class _Loader(yaml.SafeLoader):
    """Read safe YAML, and refuse a mapping that has a key twice or a key that is no text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the table that PyYAML looks words up in
        first: [
            (tag, pattern) for tag, pattern in found if tag.rpartition(":")[2] in ("null", "merge")
        ]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            if key.tag.rpartition(":")[2] not in ("str", "merge"):
                shown = f"the key {name!r}" if name else "a key"
                reason = f"{shown} is no text; write the name of a setting, or put it in quotes"
                raise yaml.MarkedYAMLError(problem=reason, problem_mark=key.start_mark)
            if name in lines:
                reason = f"the key {name!r} stands twice in one section, first in line"
                way_out = "leave one of them out"
                raise yaml.MarkedYAMLError(
                    problem=f"{reason} {lines[name]}; {way_out}", problem_mark=key.start_mark
                )
            lines[name] = line
        return node


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9][\d_]*)|0x[\da-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\d[\d_]*\.?\d*[eE][-+]?\d+|(0|[1-9][\d_]*)?\.\d+([eE][-+]?\d+)?|(0|[1-9][\d_]*)\.)"
        r"|[-+]?\.(inf|Inf)|\.(nan|NaN)",
        "-+0123456789.",
    ),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first)
    )
