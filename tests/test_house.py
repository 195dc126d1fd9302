"""Test the rules of the house: plain words, unique class names, short files and short functions."""

from __future__ import annotations

import argparse
import ast
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "fedmosaic"
SOURCES = sorted(PACKAGE.rglob("*.py"))
FILES = [
    *SOURCES,
    *sorted((ROOT / "tests").rglob("*.py")),
    *sorted((ROOT / "benchmarks").rglob("*.py")),
]
PAGES = [
    path
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/*.md")
    for path in sorted(ROOT.glob(pattern))
    if path.name != "CHANGELOG.md"  # tells of old names
]

# Private words of earlier versions, and the terms that replaced them. A word is forbidden as an
# identifier, as a part of one between underscores, as a setting, an option and a heading.
REPLACED = {
    "Ledger": "ServerState",
    "Site": "Runtime or AdapterSite",
    "Host": "AdaptedModel",
    "Order": "Instructions",
    "Reply": "ClientResult",
    "Looked": "ModelTraces",
    "Script": "TokenizedPublicSet",
    "Carried": "MappedPredictions",
    "Play": "RecordedFederation",
    "adopt": "start_from_received",
    "again": "a word for the second of two",
    "alone": "no_communication, single",
    "beside": "additive",
    "everyone": "oracle only",
    "foreign": "cross_architecture_weight",
    "forget": "clear",
    "furthest": "max_difference",
    "heard": "peer_predictions",
    "kappa": "b_scale",
    "kept": "state",
    "lesson": "targets",
    "look_at": "prepare",
    "once": "cached",
    "pull": "interpolation",
    "pulled": "interpolated",
    "said": "predictions",
    "shake": "perturb_personal",
    "sharp": "relative_temperature",
    "spoken": "label_logits",
    "take_up": "load_stream",
    "tell": "progress",
    "told": "on_result",
    "turned": "rotated",
    "visit": "client_turn",
}
# Names of other libraries that contain such a word.
LIBRARY_NAMES = {"once_differentiable", "pull_messages", "pull_objects", "shake_256"}
# Words that only a setting, an option, an algorithm's name or a heading must not have.
ALSO_REPLACED = {"within": "same architecture"}
# Adapter and alignment settings whose names became PEFT's, or which are gone.
OLD_SETTINGS = {
    "adapter": ("rank", "blocks", "targets", "shared_rank", "shared_targets", "kappa", "mix"),
    "alignment": ("layers", "rank", "blocks", "modules"),
    "alignment.refine": ("questions", "kept", "steps", "batch", "tasks", "support", "lr", "own"),
    "clients": ("rank",),
}

MOST_LINES = 300
LONG_FILES: dict[str, str] = {}
MOST_FUNCTION_LINES = 50
LONG_FUNCTIONS = {
    "api/alignment.py:align": "its docstring: one argument a line, with every error",
    "api/own_data.py:init": "its docstring: one argument a line, with every error",
}


def replaced_word(name: str, words: dict[str, str] = REPLACED) -> str | None:
    """Return the first replaced word that a name is or has between underscores or hyphens."""
    padded = f"_{name.replace('-', '_')}_"
    return next((word for word in words if f"_{word}_" in padded), None)


def identifiers(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the identifiers of a file with their lines, without the names of tests."""
    with path.open("rb") as stream:
        for token in tokenize.tokenize(stream.readline):
            if token.type == tokenize.NAME and not token.string.startswith("test_"):
                yield token.string, token.start[0]


def test_no_identifier_is_a_replaced_word() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name} (now: {REPLACED[word]})"
        for path in FILES
        for name, line in identifiers(path)
        if name not in LIBRARY_NAMES and (word := replaced_word(name)) is not None
    ]
    assert not found, "\n".join(found)


def test_no_file_is_named_by_a_replaced_word() -> None:
    found = [path for path in FILES if replaced_word(path.stem)]
    assert not found


def setting_names(model: type, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield section and name of every setting below a pydantic model."""
    from fedmosaic.config import Settings

    for name, field in model.model_fields.items():  # type: ignore[attr-defined]
        yield prefix, name
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, Settings):
                yield from setting_names(kind, f"{prefix}.{name}".lstrip("."))


def test_no_setting_is_a_replaced_word() -> None:
    from fedmosaic.config import Scenario

    settings = list(setting_names(Scenario))
    assert ("adapter", "r") in settings and ("train", "lr") in settings
    found = [
        f"{section}.{name}"
        for section, name in settings
        if replaced_word(name, REPLACED | ALSO_REPLACED) or name in OLD_SETTINGS.get(section, ())
    ]
    assert not found


def test_no_algorithm_or_option_of_one_is_a_replaced_word() -> None:
    from fedmosaic.algorithms import algorithm_names

    names = algorithm_names()
    assert "fedmosaic" in names
    found = [name for name in names if replaced_word(name, REPLACED | ALSO_REPLACED) or "_" in name]
    assert not found
    options = {option for path in SOURCES for option in option_fields(path)}
    assert "mu" in options
    assert not [option for option in options if replaced_word(option, REPLACED | ALSO_REPLACED)]


def option_fields(path: Path) -> Iterator[str]:
    """Yield the fields of the nested ``Options`` classes of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef) and node.name == "Options":
            for part in node.body:
                if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
                    yield part.target.id


def test_no_argument_of_the_command_is_a_replaced_word() -> None:
    from fedmosaic.cli import build_parser

    def arguments(parser: argparse.ArgumentParser) -> Iterator[str]:
        for action in parser._actions:
            yield from (option.lstrip("-") for option in action.option_strings or [action.dest])
            if isinstance(action, argparse._SubParsersAction):
                for name, command in action.choices.items():
                    yield name
                    yield from arguments(command)

    found = list(arguments(build_parser()))
    assert "seed" in found and "run" in found
    assert not [name for name in found if replaced_word(name, REPLACED | ALSO_REPLACED)]


def headings() -> Iterator[tuple[str, str]]:
    """Yield place and text of the headings and table columns of pages and reports."""
    for path in PAGES:
        lines = path.read_text().splitlines()
        for line, following in zip(lines, [*lines[1:], ""], strict=True):
            if line.startswith("#") or re.match(r"^\|[-:| ]+\|$", following):
                yield path.name, line
    for path in sorted((PACKAGE / "reporting").rglob("*.j2")):
        for text in re.findall(r"<(?:th|h\d)\b[^>]*>([^<{]+)<", path.read_text()):
            yield path.name, text
    for path in sorted((PACKAGE / "reporting").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            function = getattr(node, "func", None)
            name = getattr(function, "id", getattr(function, "attr", ""))
            if isinstance(node, ast.Call) and name in ("Column", "TextTable", "ReportTable"):
                for part in ast.walk(node):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        yield path.name, part.value


def test_no_heading_has_a_replaced_word() -> None:
    found = list(headings())
    assert any(text == "algorithm" for _, text in found)
    words = REPLACED | ALSO_REPLACED
    assert not [
        (place, text)
        for place, text in found
        if any(replaced_word(word, words) for word in re.findall(r"[\w-]+", text))
    ]


def definitions(path: Path, kind: type[ast.AST]) -> Iterator[ast.AST]:
    return (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kind))


def test_no_two_classes_have_one_name() -> None:
    """``Options`` is left out: every algorithm nests a class of that name for its own settings."""
    names = Counter(
        node.name  # type: ignore[attr-defined]
        for path in SOURCES
        for node in definitions(path, ast.ClassDef)
        if node.name != "Options"  # type: ignore[attr-defined]
    )
    assert not [name for name, count in names.items() if count > 1]


def test_no_two_test_files_have_one_name() -> None:
    """pytest imports the files of a folder that is no package by their names alone."""
    folders = (path for path in (ROOT / "tests").rglob("*.py") if path.name != "__init__.py")
    plain = [path for path in folders if not (path.parent / "__init__.py").exists()]
    names = Counter(path.name for path in plain if path.name != "conftest.py")
    assert [name for name, count in names.items() if count > 1] == []


def test_files_are_short() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in FILES}
    found = {name: length for name, length in lengths.items() if length > MOST_LINES}
    assert found.keys() == LONG_FILES.keys(), found


def test_functions_are_short() -> None:
    found = {
        f"{path.relative_to(PACKAGE)}:{node.name}": length  # type: ignore[attr-defined]
        for path in SOURCES
        for node in definitions(path, ast.FunctionDef)
        if (length := node.end_lineno - node.lineno + 1) > MOST_FUNCTION_LINES  # type: ignore[attr-defined,operator]
    }
    assert found.keys() == LONG_FUNCTIONS.keys(), found


@pytest.mark.parametrize("phrase", ["surely above", "cannot be told"])
def test_results_are_in_the_words_of_statistics(phrase: str) -> None:
    assert not [path for path in (*PAGES, *SOURCES) if phrase in path.read_text()]
