"""Test models that accelerate spreads: over devices they give signatures, offloaded none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload, disk_offload, dispatch_model

from fedmosaic.errors import ModelError
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.loading import load_pretrained
from fedmosaic.models.options import ModelOptions
from fedmosaic.relevance import closed_form, signature_model
from fedmosaic.relevance.closed_form import ClosedFormSignature
from fedmosaic.relevance.last_layer import ForwardPass
from fedmosaic.relevance.norms import FinalNorm
from fedmosaic.relevance.signature_model import random_batch
from tests.families import build

CPU = ModelOptions(device="cpu")


def leaves(model: Any, last: str, place: str) -> dict[str, str]:
    """Return a device map of the modules without children: below ``last`` to a place, else CPU."""
    modules = [path for path, module in model.named_modules() if not list(module.children())]
    return {path: place if path.startswith(last) else "cpu" for path in modules}


@pytest.mark.parametrize("where", ["main memory", "disk", "last layer on disk"])
def test_offloaded_weights_are_refused(tmp_path: Path, where: str) -> None:
    model, tokenizer, processor = load_pretrained(str(build("llama", tmp_path / "m")), CPU)
    total = len(list(model.parameters()))
    if where == "main memory":
        cpu_offload(model, execution_device=torch.device("cpu"))
    elif where == "disk":
        disk_offload(model, str(tmp_path / "off"), execution_device=torch.device("cpu"))
    else:
        total = len(list(model.model.layers[2].parameters()))
        places = leaves(model, "model.layers.2", "disk")
        dispatch_model(model, places, main_device="cpu", offload_dir=str(tmp_path / "off"))
    with pytest.raises(
        ModelError, match=rf"^model 'm': {total} of its .* offloaded .*models\.device_map: auto on"
    ):
        Backbone("m", model, tokenizer, processor)


@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen2_vl"])
def test_a_model_in_accelerates_hooks_gives_the_same_signature(family: str, tmp_path: Path) -> None:
    plain = Backbone.load(str(build(family, tmp_path / family)), CPU)
    model, tokenizer, processor = load_pretrained(plain.name, CPU)
    dispatch_model(model, leaves(model, "", "cpu"), main_device="cpu", force_hooks=True)
    spread = Backbone(plain.name, model, tokenizer, processor)
    batch = random_batch(plain)
    ours, theirs = signature_model(spread), signature_model(plain)
    assert ours.method == theirs.method
    assert torch.equal(ours.gradient(batch), theirs.gradient(batch))


@pytest.mark.parametrize("centred", [False, True])
def test_the_closed_form_is_computed_where_the_head_is(
    centred: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch's meta device stands for a second card: a tensor left on the first one raises."""
    shared = Backbone.load(str(build("llama", tmp_path / "llama")), CPU)
    width, other = shared.hidden_size, torch.device("meta")
    norm = FinalNorm(torch.ones(width), torch.ones(width), 1e-6, centred)
    head = torch.ones(101, width, device=other)
    monkeypatch.setattr(closed_form, "recognise", lambda *_: norm)
    monkeypatch.setattr(closed_form, "find_head", lambda _: (head, head[:, 0]))
    monkeypatch.setattr(ClosedFormSignature, "logits", lambda _, hidden: hidden @ head.T)
    monkeypatch.setattr(ClosedFormSignature, "_verify", lambda _: None)
    model = ClosedFormSignature(shared, keep=0.4)
    recorded = ForwardPass(
        torch.ones(5, width, device=other),
        torch.ones(5, model.layer.in_features, device=other),
        torch.ones(5, dtype=torch.int64, device=other),
    )
    found = model.closed_form(recorded)
    assert model.rows.device == found.device == other and found.shape == (model.size,)
    with pytest.raises(RuntimeError, match="device"):
        model.closed_form(replace(recorded, hidden=torch.ones(5, width)))
