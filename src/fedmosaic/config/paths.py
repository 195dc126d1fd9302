"""Find the settings of a scenario that are paths, and write them as the shell would.

``~`` is the home folder, ``~name`` that of another user, ``$NAME`` and ``${NAME}`` a variable of
the environment, and ``$$`` a dollar sign.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fedmosaic.errors import ConfigError

# Settings that are a path, or a name in whose place a path may stand. ``*``: every item.
PATHS = (
    "extends",
    "data.root",
    "data.public",
    "clients.*.model",
    "clients.*.tasks.*",
    "clients.*.tasks.*.name",
    "unseen.*",
    "unseen.*.name",
    "alignment.pivot",
    "alignment.refine.join",
    "refine.join",  # of `fedmosaic align`
    "relevance.model",
    "replace_models.*",
)
_VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<braced>[^}]*)\}|(?P<plain>[A-Za-z_]\w*))")
_NAME = re.compile(r"[A-Za-z_]\w*")


def expand(text: str) -> str:
    """Return a path with the home folder and variables in place.

    Raises:
        ConfigError: a variable is not set or empty, or a home folder is not known.
    """
    found = _VARIABLE.sub(_value, text)
    if not text.startswith("~"):
        return found
    try:
        return str(Path(found).expanduser())
    except RuntimeError as error:
        user = Path(found).parts[0]
        raise ConfigError(
            f"the home folder {user} is not known; write the path in full, or ./{user} for a "
            "file of that name"
        ) from error


def expand_paths(content: Any, origin: str, paths: Sequence[str] = PATHS) -> None:
    """Expand every path in the content of a scenario, in place.

    Args:
        content: as of :func:`change_paths`.
        origin: begins messages, e.g. the name of the file.
        paths: as of :func:`change_paths`.

    Raises:
        ConfigError: as :func:`expand`; names ``origin`` and the field.
    """

    def expanded(field: str, text: str) -> str:
        try:
            return expand(text)
        except ConfigError as error:
            raise ConfigError(f"{origin}: {field} = {text!r}: {error}") from error

    change_paths(content, expanded, paths)


def change_paths(
    content: Any, change: Callable[[str, str], str], paths: Sequence[str] = PATHS
) -> None:
    """Replace every path in the content of a scenario, in place.

    Args:
        content: nested mappings and lists; what does not look like a scenario is left as it is.
        change: takes a field's dotted name and its text, and returns the new text.
        paths: dotted names of the settings that are paths; ``*`` stands for every item.
    """
    for pattern in paths:
        for holder, key, field in _places(content, pattern.split("."), ()):
            if isinstance(holder[key], str):
                holder[key] = change(field, holder[key])


def _places(
    node: Any, pattern: list[str], before: tuple[str, ...]
) -> Iterator[tuple[Any, Any, str]]:
    """Yield container, key and dotted name of what a pattern stands for."""
    head, *rest = pattern
    keys: list[Any] = []
    if head == "*" and isinstance(node, list):
        keys = list(range(len(node)))
    elif isinstance(node, dict):
        keys = list(node) if head == "*" else [head] * (head in node)
    for key in keys:
        place = (*before, str(key))
        if rest:
            yield from _places(node[key], rest, place)
        else:
            yield node, key, ".".join(place)


def _value(match: re.Match[str]) -> str:
    if match["dollar"]:
        return "$"
    name = match["plain"] or match["braced"]
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{match[0]} names no variable; write ${{NAME}}, or $$ for a dollar sign")
    value = os.environ.get(name)
    if not value:
        state = "is not set" if value is None else "is empty"
        raise ConfigError(
            f"the variable {name} {state}; set it in the environment, write the path in full, or "
            "write $$ for a dollar sign"
        )
    return value
