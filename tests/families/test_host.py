"""Test that a forward pass reads no value of a batch but those in main memory, and stays the same.

Some families do read others: Qwen3-VL, for one, in the layers that take features of its tower.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask

from fedmosaic.models import host
from fedmosaic.models.backbone import Batch
from fedmosaic.models.host import answer_on_host
from tests.families.conftest import Load
from tests.families.examples import EXAMPLES

FAMILIES = ("llava_llama", "qwen2_vl", "internvl", "smolvlm", "llama", "gemma2")
aten = torch.ops.aten


class NothingIsRead(TorchDispatchMode):
    """Refuse what makes the program wait for a card."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        masks = func is aten.index.Tensor and any(
            i is not None and i.dtype == torch.bool for i in args[1]
        )
        if masks or func in (aten._local_scalar_dense.default, aten.nonzero.default):
            raise AssertionError(f"{func} reads values of the batch")
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let only methods that are called on the host read values, and forget the mask afterwards."""
    ask = host._OnHost._ask

    def read(self: Any, args: Any, kwargs: Any) -> Any:
        with _disable_current_modes():
            return ask(self, args, kwargs)

    monkeypatch.setattr(host._OnHost, "_ask", read)
    yield
    ALL_MASK_ATTENTION_FUNCTIONS.register("sdpa", sdpa_mask)


def on_a_card(batch: Batch) -> Batch:
    """Return a batch whose tensors are others than those in main memory."""
    others = {n: v.clone() if n in batch.host else v for n, v in batch.others.items()}
    ids, mask, labels = batch.input_ids, batch.attention_mask, batch.labels
    moved = replace(
        batch,
        input_ids=ids.clone(),
        attention_mask=mask.clone(),
        labels=labels.clone(),
        others=others,
    )
    assert moved.padded is not None  # found in main memory
    return moved


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "cases", [["two images", "one image"], ["one image"]], ids=["padded", "full"]
)
def test_forward_passes_read_nothing_of_a_batch(family: str, cases: list[str], load: Load) -> None:
    backbone = load(family)
    if not backbone.vision:
        cases = ["two turns", "text"][: len(cases)]
    batch = backbone.collate([backbone.encode(EXAMPLES[case]) for case in cases])
    assert batch.padded == (len(cases) > 1)
    columns = batch.columns(0, batch.labels.shape[1])
    with torch.no_grad():
        expected = backbone.logits(backbone.model, batch, columns)
        moved, model = on_a_card(batch), backbone.fork()
        answer_on_host(model)
        with NothingIsRead():
            found = backbone.logits(model, moved, columns)
    assert torch.equal(found, expected)
