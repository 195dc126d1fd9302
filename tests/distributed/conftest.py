"""Let sites of the same process be asked anew after a moment, not after ten seconds."""

from __future__ import annotations

import pytest

from fedmosaic.distributed import membership


@pytest.fixture(autouse=True)
def _asked_anew_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "AGAIN", 0.5)
