"""Directives that read settings, algorithms, commands and results where they are defined, so that no page repeats them.

A setting without a description stops the build.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import shlex
import sys
import textwrap
import types
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.statemachine import StringList
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from fedmosaic.algorithms import algorithm_class
from fedmosaic.cli import build_parser

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # for the benchmarks, which are no part of the library

from benchmarks.accuracy import evidence  # noqa: E402

EVIDENCE = ROOT / "benchmarks" / "results" / "evidence.json"
# Files outside docs/ that pages link to, and the pages that show them on the site.
SHOWN = {
    r"(?:\.\./)+benchmarks/results/([\w-]+)\.md": r"tables/\1.md",
    r"(?:\.\./)+CONTRIBUTING\.md": "contributing.md",
}
SHOWN |= {
    r"(?:\.\./)+CHANGELOG\.md": "changelog.md",
    r"(?:\.\./)+benchmarks/README\.md": "reproducing.md",
}
PLAIN = {
    int: "integer",
    float: "number",
    bool: "true or false",
    str: "text",
    Path: "path",
    dict: "mapping",
}
BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "min_length": "at least"}  # of a list


class FromLibrary(SphinxDirective):
    """Base: a directive whose content is Markdown made from the library."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = False

    def run(self) -> list[nodes.Node]:
        target = nodes.Element()
        lines = [line for text in self.markdown(self.arguments[0]) for line in text.splitlines()]
        self.state.nested_parse(StringList(lines, self.env.docname), self.content_offset, target)
        return target.children

    def markdown(self, name: str) -> Iterator[str]:
        raise NotImplementedError


class SettingsOf(FromLibrary):
    """The fields of a settings class: ``{settings} fedmosaic.config.scenario:TrainSettings`` with the ``prefix`` of their keys."""

    option_spec: ClassVar = {"prefix": str}

    def markdown(self, name: str) -> Iterator[str]:
        yield from fields(attribute(name), self.options.get("prefix", ""))


class OptionsOf(FromLibrary):
    """The options of an algorithm under ``algorithms.<name>``; those of the algorithm ``beyond`` are left out."""

    option_spec: ClassVar = {"beyond": str}

    def markdown(self, name: str) -> Iterator[str]:
        beyond = self.options.get("beyond")
        listed = algorithm_class(beyond).Options.model_fields if beyond else {}
        yield from fields(algorithm_class(name).Options, f"algorithms.{name}.", without=set(listed))


class Definition(FromLibrary):
    """An algorithm's own description: what it computes, where it departs from its paper, and its source."""

    def markdown(self, name: str) -> Iterator[str]:
        yield as_markdown(inspect.getdoc(algorithm_class(name)) or "") + "\n"


class Result(FromLibrary):
    """The figures of a row of the evidence, and its curve."""

    def markdown(self, name: str) -> Iterator[str]:
        self.env.note_dependency(str(EVIDENCE))
        yield result_table(json.loads(EVIDENCE.read_text()), name)


class Command(FromLibrary):
    """A command of ``fedmosaic``: what it does, how it is called, what its options mean."""

    def markdown(self, name: str) -> Iterator[str]:
        yield from command(parser_of(name.split()))


def attribute(name: str) -> Any:
    """What ``module:attribute`` names."""
    module, _, found = name.partition(":")
    return getattr(import_module(module), found)


def fields(kind: type[BaseModel], prefix: str, without: Collection[str] = ()) -> Iterator[str]:
    """Every field as a setting of its own. Raises ExtensionError if any of them has no description."""
    known = descriptions(kind)
    texts = {
        name: field.description or known.get(name, "") for name, field in kind.model_fields.items()
    }
    if missing := [name for name, text in texts.items() if not text]:
        raise ExtensionError(
            f"{kind.__module__}.{kind.__qualname__}: no description of {', '.join(missing)}"
        )
    for name, field in kind.model_fields.items():
        if name in without:
            continue
        told = "; ".join(part for part in (allowed(field), default(field)) if part)
        yield f"````{{confval}} {prefix}{name}\n*{told}*\n\n{as_markdown(texts[name])}\n````\n"


def descriptions(kind: type[BaseModel]) -> dict[str, str]:
    """Texts of fields that the class docstring describes, under ``Attributes:`` or as ````name``: …``."""
    found: dict[str, str] = {}
    for cls in reversed(kind.__mro__):
        own = inspect.get_annotations(cls)
        if not (issubclass(cls, BaseModel) and own):
            continue
        names = "|".join(map(re.escape, own))
        text = inspect.cleandoc(cls.__doc__ or "")
        for group, meaning in entries(text, names):
            found |= {name: meaning for name in re.findall(r"\w+", group)}
    return found


def entries(text: str, names: str) -> Iterator[tuple[str, str]]:
    """``(names, meaning)`` of each entry of a docstring."""
    one = rf"`{{0,2}}(?:{names})`{{0,2}}"
    start = re.compile(rf"(?:^[ \t]*|(?<=\. ))({one}(?:, {one})*): ", re.MULTILINE)
    listed = text.partition("Attributes:\n")[2] or text
    parts = start.split(listed)[1:]
    for group, meaning in zip(parts[::2], parts[1::2], strict=True):
        yield group, " ".join(meaning.split())


def allowed(field: FieldInfo) -> str:
    """Type and bounds in words."""
    bounds = [
        f"{sign} {getattr(rule, name)}" + (" entries" if name == "min_length" else "")
        for rule in field.metadata
        for name, sign in BOUNDS.items()
        if getattr(rule, name, None) is not None
    ]
    return ", ".join([in_words(field.annotation), *bounds])


def in_words(annotation: Any) -> str:
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
    """The default in words; none for sections."""
    if field.is_required():
        return "must be given"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return ""
    if isinstance(value, tuple | list | dict):
        value = f"[{', '.join(map(str, value))}]" if value else "empty"
    return f"default {value or 'empty' if isinstance(value, str) else json.dumps(value)}"


def as_markdown(text: str) -> str:
    """A docstring as Markdown: roles become literals, double backticks single ones."""
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?([\w.]+)`", r"`\1`", text)
    return re.sub(r"``([^`]+)``", r"`\1`", text)


def result_table(parts: Mapping[str, Any], name: str) -> str:
    """Self, Others and their differences to local training, of both parts of the evidence."""
    label = name.removeprefix("fedmosaic-").replace("-", " ") if name != "fedmosaic" else name
    head = "| | Self | Others | Self − sft | Others − sft | local steps a round | rate | MB up / down |"
    lines = [head, "|---|" + "---|" * 7]
    label = next(
        (key for key in (name, name.replace("-", "_"), label) if key in parts["static"]["rows"]), ""
    )
    if not label:
        return "It has no row in the evidence: it is outside every budget.\n"
    for part, content in parts.items():
        row = content["rows"].get(label)
        if row is None:
            continue
        rate = ", ".join(setting.partition("=")[2] for setting in rates(content, label))
        cells = [interval(row[c]) for c in ("Self", "Others")]
        cells += [interval(row[c].get("minus sft"), "+") for c in ("Self", "Others")]
        sent = " / ".join(f"{row['bytes'][way] / 1e6:.1f}" for way in ("up", "down"))
        lines.append(f"| {part} | " + " | ".join([*cells, str(row["steps"]), rate, sent]) + " |")
    return "\n".join([*lines, "", row_command(parts["static"], label), "", curve(name)]) + "\n"


def rates(content: Mapping[str, Any], label: str) -> Sequence[str]:
    """The learning rate that a row chose; variants of FedMosaic take FedMosaic's."""
    chosen: Mapping[str, Sequence[str]] = content["chosen"]
    return chosen.get(label) or chosen["fedmosaic"]


def row_command(content: Mapping[str, Any], label: str) -> str:
    """The command of one seed of the static row."""
    variant = next(found for found in evidence.labelled("static") if found.label == label)
    settings = [*evidence.SET, *variant.settings, *rates(content, label)]
    words = [
        f"fedmosaic run {evidence.SCENARIOS['static']} --algorithm {variant.algorithm} --seed 0"
    ]
    words += [f"--set {shlex.quote(setting)}" for setting in settings]
    shown = " \\\n  ".join(words)
    return f"Seed 0 of the static row is this run:\n\n```bash\n{shown}\n```"


def curve(name: str) -> str:
    """The accuracy over rounds, where it has been drawn."""
    path = f"algorithms/curves/{name}.svg"
    if not (ROOT / "docs" / path).is_file():
        return ""
    alt = f"Accuracy of {name} over rounds, local training in grey"
    return f"```{{image}} /{path}\n:alt: {alt}\n:class: light-paper\n```"


def interval(found: Mapping[str, float] | None, sign: str = "") -> str:
    return (
        "" if found is None else whole_figures(f"{found['mean']:{sign}.1f} ± {found['ci95']:.1f}")
    )


def parser_of(path: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of ``fedmosaic <path>``."""
    parser = build_parser()
    for name in path:
        parser = next(
            a.choices[name] for a in parser._actions if isinstance(a, argparse._SubParsersAction)
        )
    return parser


def command(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Description, usage and every argument of a command."""
    usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
    yield f"{parser.description}\n" if parser.description else ""
    yield (
        "```text\n"
        + textwrap.fill(usage, 90, subsequent_indent="    ", break_on_hyphens=False)
        + "\n```\n"
    )
    yield f"```{{program}} {parser.prog}\n```\n"
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
            continue
        shown = action.metavar or (action.dest.upper() if action.nargs != 0 else "")
        names = (
            ", ".join(f"{option} {shown}".strip() for option in action.option_strings)
            or shown
            or action.dest
        )
        choices = f" One of: {', '.join(map(str, action.choices))}." if action.choices else ""
        if not action.help:
            raise ExtensionError(f"{parser.prog}: {names} has no help")
        yield f"````{{option}} {names}\n{action.help}.{choices}\n````\n"


def link_shown_pages(app: Sphinx, docname: str, source: list[str]) -> None:
    """Links to files outside ``docs/`` become links to the pages that show them; both readings of a page have working links."""
    source[0] = whole_figures(relinked(source[0], "../" * docname.count("/")))


def link_included(app: Sphinx, path: Path, docname: str, content: list[str]) -> None:
    """The same for a file that a page shows whole: its links start at the repository's root."""
    content[0] = whole_figures(re.sub(r"(?<=\]\()docs/", "", content[0]))


def whole_figures(text: str) -> str:
    """No line may break inside ``56.2 ± 0.9``."""
    return re.sub(r"(?<=\d) ± (?=\d)", "\u00a0±\u00a0", text)


def relinked(text: str, up: str) -> str:
    for pattern, page in SHOWN.items():
        text = re.sub(rf"(?<=\]\(){pattern}", lambda m, page=page: up + m.expand(page), text)
    return text


def setup(app: Sphinx) -> dict[str, bool]:
    """Entry point of the extension."""
    kinds = {
        "settings": SettingsOf,
        "algorithm-options": OptionsOf,
        "definition": Definition,
        "result": Result,
    }
    for name, kind in {**kinds, "command": Command}.items():
        app.add_directive(name, kind)
    app.connect("source-read", link_shown_pages)
    app.connect("include-read", link_included)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
