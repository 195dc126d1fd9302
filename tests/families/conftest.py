"""Build and load each tiny family at most once in a process."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from fedmosaic.models.backbone import Backbone
from tests.families import build

Load = Callable[[str], Backbone]
FolderOf = Callable[[str], Path]


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> FolderOf:
    root = tmp_path_factory.mktemp("families")
    return cache(lambda name: build(name, root / name))


@pytest.fixture(scope="session")
def load(folder_of: FolderOf) -> Load:
    return cache(lambda name: Backbone.load(str(folder_of(name))))
