"""Test the app of Flower: its settings, and what it asks fedmosaic for."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path
from typing import Any

import fedmosaic
from fedmosaic.algorithms import algorithm_names
from fedmosaic.config.load import load_scenario

APP = Path(__file__).parents[2] / "deploy" / "flower-app"
MANIFEST: dict[str, Any] = tomllib.loads((APP / "pyproject.toml").read_text())["tool"]["flwr"][
    "app"
]


def names(module: str) -> set[str]:
    """Return the names that a module of the app assigns."""
    tree = ast.parse((APP / f"{module}.py").read_text())
    return {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def test_its_components_are_there() -> None:
    for component in MANIFEST["components"].values():
        module, _, name = component.partition(":")
        assert name in names(module)


def test_every_setting_is_used_and_has_a_valid_default() -> None:
    config = MANIFEST["config"]
    tree = ast.parse((APP / "server_app.py").read_text())
    used = {
        node.slice.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant)
    }
    assert used == config.keys()
    assert config["algorithm"] in algorithm_names()
    assert load_scenario(config["scenario"]).clients


def test_it_calls_fedmosaic_with_arguments_that_exist() -> None:
    tree = ast.parse((APP / "server_app.py").read_text())
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and getattr(node.func.value, "id", "") == "fedmosaic"
    ]
    assert {call.func.attr for call in calls} == {"run", "resume"}  # type: ignore[attr-defined]
    known = {*fedmosaic.run.__kwdefaults__, "engine"}
    assert all(argument.arg in known for call in calls for argument in call.keywords)
