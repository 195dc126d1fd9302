"""What all tests share: one thread, no hub, and a federation small enough to run in seconds."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

torch.set_num_threads(1)

TINY: dict[str, Any] = {
    "title": "three architectures, four clients",
    "rounds": 3,
    "clients": [
        {"name": "a", "model": "miniature/llama-8x96", "group": "one", "tasks": ["miniature/stages-0"]},
        {"name": "b", "model": "miniature/qwen2-10x112", "group": "one", "tasks": ["miniature/stages-2"]},
        {"name": "c", "model": "miniature/llama-12x128", "group": "two", "tasks": ["miniature/idiom-3"]},
        {"name": "d", "model": "miniature/llama-8x96", "group": "two", "tasks": ["miniature/idiom-1"]},
    ],
    "data": {"train": 8, "test": 6, "public": "miniature/public", "public_size": 8},
    "adapter": {"rank": 4, "alpha": 8, "blocks": 2, "dropout": 0.1},
    "train": {"steps": 3, "batch_size": 2, "lr": 2e-3, "lr_shared": 1e-2},
    "relevance": {"every": 2},
    "evaluation": {"every": 1},
}


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A scenario file of four clients and three architectures; three rounds take a few seconds."""
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or leaves anything in the user's cache."""
    monkeypatch.setenv("FEDMOSAIC_CACHE", str(tmp_path / "cache"))
