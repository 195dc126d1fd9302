"""Make a small comparison once for all tests of the report; each test gets a copy to change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

import fedmosaic
from fedmosaic.experiments import grid
from in_process import Here
from tiny_scenario import TINY

HOSTILE = '</script><script>alert("x")</script>'


@pytest.fixture(scope="session")
def original_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compare local training and FedMosaic: four clients, two groups, two rounds, two seeds.

    The title and a group contain markup that must not reach the page.
    """
    folder = tmp_path_factory.mktemp("report")
    groups = ["one", "one", HOSTILE, HOSTILE]
    clients = [
        {**client, "group": group} for client, group in zip(TINY["clients"], groups, strict=True)
    ]
    scenario = folder / "tiny.yaml"
    scenario.write_text(
        yaml.safe_dump({**TINY, "title": f"<b>&{HOSTILE}", "clients": clients, "rounds": 2})
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDMOSAIC_CACHE", str(folder / "cache"))
        patch.setattr(grid, "_Process", Here)
        fedmosaic.compare(
            scenario,
            algorithms=["sft", "fedmosaic"],
            seeds=[0, 1],
            out=folder / "comparison",
            jobs=1,
            progress=False,
        )
    return folder / "comparison"


@pytest.fixture
def comparison_folder(original_folder: Path, tmp_path: Path) -> Path:
    """Copy the comparison folder."""
    return Path(shutil.copytree(original_folder, tmp_path / "comparison"))
