"""Read what the class of an algorithm says about itself, without importing it and PyTorch."""

from __future__ import annotations

import ast
from functools import cache
from importlib import import_module
from pathlib import Path


def declared(module: str, name: str, attribute: str) -> str:
    """Return a text that a class sets as an attribute, or its first base class that does.

    What is not written as one text between quotes is asked of the class itself.

    Args:
        module: name of a module in this package, such as ``fedavg`` or ``common.dual``.
        name: of the class.
        attribute: of the class.
    """
    found = _written(module, name, attribute)
    if found is None:
        home = import_module(f"fedmosaic.algorithms.{module}")
        found = str(getattr(getattr(home, name), attribute))
    return found


def _written(module: str, name: str, attribute: str) -> str | None:
    """Return the text as the source has it; None if it is not there."""
    tree = _source(module)
    kinds = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    if name not in kinds:
        homes = {
            alias.name: node.module.removeprefix("fedmosaic.algorithms.")
            for node in tree.body
            if isinstance(node, ast.ImportFrom) and node.module
            if node.module.startswith("fedmosaic.algorithms.")
            for alias in node.names
        }
        return _written(homes[name], name, attribute) if name in homes else None
    for node in kinds[name].body:
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == attribute:
            text = node.value
            return str(text.value) if isinstance(text, ast.Constant) else None
    written = (
        _written(module, b.id, attribute) for b in kinds[name].bases if isinstance(b, ast.Name)
    )
    return next((text for text in written if text is not None), None)


@cache
def _source(module: str) -> ast.Module:
    path = Path(__file__).parent / f"{module.replace('.', '/')}.py"
    return ast.parse(path.read_text(encoding="utf-8"))
