"""Test that a file imports only from lower floors or from its own room of the package."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "fedmosaic"
FLOORS = [
    {
        "errors",
        "seeding",
        "files",
        "frames",
        "late_import",
        "memory",
        "packing",
        "plain_warnings",
        "config",
    },
    {"miniature.world"},
    {"models", "data"},
    {"miniature.benchmark"},
    {"adapters", "relevance", "training", "evaluation"},
    {"alignment"},
    {"algorithms", "miniature", "miniature.pretraining"},
    {"federation"},
    {"distributed"},
    {"engines", "experiments", "model_check", "data_check", "own_data"},
    {"reporting"},
    {"api"},
    {"cli"},
    {"__main__"},
]
# Inside a floor, a room may use another one in this direction only.
SIDEWAYS = {
    ("config", "errors"), ("seeding", "errors"), ("files", "errors"),
    ("models", "data"),
}  # fmt: skip


def floor(room: str) -> int:
    return next(level for level, rooms in enumerate(FLOORS) if room in rooms)


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = (
                [node.module]
                if node.module != "fedmosaic"
                else [f"fedmosaic.{alias.name}" for alias in node.names]
            )
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {room_of(name.split(".")[1:]) for name in names if name.startswith("fedmosaic.")}
    return found


def room_of(parts: Sequence[str]) -> str:
    """Return the room of a module: its top folder, or its part of ``miniature``."""
    return ".".join(parts[:2]) if parts[0] == "miniature" and len(parts) > 1 else parts[0]


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_come_from_lower_floors(path: Path) -> None:
    room = room_of(path.relative_to(PACKAGE).with_suffix("").parts)
    for other in imports(path) - {room, "__version__"}:
        allowed = floor(other) < floor(room) or (room, other) in SIDEWAYS
        assert allowed, (
            f"{path.relative_to(PACKAGE)} imports {other}, which is not on a lower floor"
        )


def test_only_engines_import_flower() -> None:
    for path in FILES:
        if "engines" not in path.parts:
            assert "flwr" not in path.read_text().split(), path
