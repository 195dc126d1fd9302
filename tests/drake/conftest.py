"""Serve a small DRAKE to the tests of downloads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fedmosaic.data.download import hub
from tests.drake.fake_hub import FILES, FakeHub, serving


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "WAIT", 0.0)
    with serving(FakeHub(FILES)) as served:
        yield served
