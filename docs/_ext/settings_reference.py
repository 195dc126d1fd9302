"""Describe settings where they are defined: ``{settings}`` and ``{algorithm-options}``.

A setting without a description stops the build.
"""

from __future__ import annotations

import inspect
import json
import types
import typing
from collections.abc import Collection, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from docutils.parsers.rst import directives
from from_library import FromLibrary, as_markdown
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from fedmosaic.algorithms import algorithm_class

PLAIN = {
    int: "integer",
    float: "number",
    bool: "true or false",
    str: "text",
    Path: "path",
    dict: "mapping",
}
BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "min_length": "at least"}


class SettingsOf(FromLibrary):
    """List the fields of a class: ``{settings} fedmosaic.config:TrainSettings``.

    The option ``prefix`` is put before their names. With ``no-index`` no link leads to them, where
    another file has settings of the same names.
    """

    option_spec: ClassVar = {"prefix": str, "no-index": directives.flag}

    def markdown(self, name: str) -> Iterator[str]:
        module, _, kind = name.partition(":")
        prefix, indexed = self.options.get("prefix", ""), "no-index" not in self.options
        yield from fields(getattr(import_module(module), kind), prefix, indexed=indexed)


class OptionsOf(FromLibrary):
    """List the options of an algorithm, without those of the algorithm ``beyond``."""

    option_spec: ClassVar = {"beyond": str}

    def markdown(self, name: str) -> Iterator[str]:
        beyond = self.options.get("beyond")
        known = set(algorithm_class(beyond).Options.model_fields) if beyond else set()
        yield from fields(algorithm_class(name).Options, f"algorithms.{name}.", without=known)


def fields(
    kind: type[BaseModel], prefix: str, without: Collection[str] = (), indexed: bool = True
) -> Iterator[str]:
    """Yield every field as an entry of its own, to which links lead if it is indexed.

    Raises:
        ExtensionError: a field has no description.
    """
    if missing := [name for name, field in kind.model_fields.items() if not field.description]:
        raise ExtensionError(f"{kind.__module__}.{kind.__qualname__}: {missing} are not described")
    for name, field in kind.model_fields.items():
        if name in without:
            continue
        values = "; ".join(part for part in (allowed(field), default(field)) if part)
        description = as_markdown(str(field.description))
        option = "" if indexed else ":no-index:\n\n"
        yield f"````{{confval}} {prefix}{name}\n{option}*{values}*\n\n{description}\n````\n"


def allowed(field: FieldInfo) -> str:
    """Put type and bounds into words."""
    bounds = [
        f"{sign} {getattr(rule, name)}" + (" entries" if name == "min_length" else "")
        for rule in field.metadata
        for name, sign in BOUNDS.items()
        if getattr(rule, name, None) is not None
    ]
    return ", ".join([in_words(field.annotation), *bounds])


def in_words(annotation: Any) -> str:
    """Put a type into words."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(in_words(part) if part is not type(None) else "null" for part in inner)
    if origin is typing.Literal:
        return "one of " + ", ".join(str(value) for value in inner)
    if origin is tuple:
        what = in_words(inner[0])
        many = f"list of {what}{'s' if what == 'section' else ''}"
        return many if inner[-1] is Ellipsis else f"{len(inner)} × {what}"
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return "section"
    return PLAIN.get(origin or annotation, "any")


def default(field: FieldInfo) -> str:
    """Put the default into words; empty for sections."""
    if field.is_required():
        return "must be given"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return ""
    if isinstance(value, tuple | list | dict):
        value = f"[{', '.join(map(str, value))}]" if value else "empty"
    return f"default {value or 'empty' if isinstance(value, str) else json.dumps(value)}"


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directives."""
    app.add_directive("settings", SettingsOf)
    app.add_directive("algorithm-options", OptionsOf)
    return {"parallel_read_safe": True}
