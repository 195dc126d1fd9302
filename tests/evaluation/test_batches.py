"""Test that images of coming batches are computed together."""

from __future__ import annotations

from array import array
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fedmosaic.evaluation import batches
from fedmosaic.evaluation.batches import SortedBatches
from fedmosaic.models.encoding import Encoded


@pytest.mark.parametrize("memory", [0, 1 << 20])
def test_images_of_coming_batches_are_computed_together(
    monkeypatch: pytest.MonkeyPatch, memory: int
) -> None:
    monkeypatch.setattr(batches, "AHEAD", 4)
    calls: list[Any] = []
    backbone: Any = SimpleNamespace(
        images=SimpleNamespace(compute_ahead=lambda units: calls.append([*units])),
        collate=lambda items: calls.append(len(items)) or SimpleNamespace(x=torch.zeros(3)),
    )
    items = [Encoded(array("i", [1]), array("i", [1]), ((f"image {i}",),)) for i in range(7)]  # type: ignore[arg-type]
    found = SortedBatches(backbone, items, 2, memory=memory)
    assert [part for part, _ in found] == [[0, 1], [2, 3], [4, 5], [6]]
    units = [item.units[0] for item in items]
    first = [units[:4], 2, 2, units[4:], 2, 1]
    assert calls == first
    calls.clear()
    assert len(list(found)) == 4
    assert calls == ([] if memory else first)
