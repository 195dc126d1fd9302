"""Test that ``fedmosaic model check`` finds what is wrong with a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from fedmosaic.model_check import encoding, training
from fedmosaic.models.encoding import Encoder
from tests.model_check.command import check


def test_a_template_that_drops_the_question(
    capsys: pytest.CaptureFixture[str], copied: Path
) -> None:
    (copied / "chat_template.jinja").write_text(
        "{% for m in messages %}{% if m.role == 'assistant' %}{{ m.content }}{{ eos_token }}"
        "{% endif %}{% endfor %}"
    )
    status, found = check(capsys, copied)
    assert status == 1 and found["ids_equal"] is None and not found["step"]
    assert len(found["problems"]) == 1 and "chat_template.jinja" in found["problems"][0]
    assert found["adapted"]["layers"] == 3 and found["signature"] == "closed form"


def test_a_template_that_cannot_be_applied(
    capsys: pytest.CaptureFixture[str], copied: Path
) -> None:
    (copied / "chat_template.jinja").write_text("{% for m in messages %}")
    status, found = check(capsys, copied)
    assert status == 1 and len(found["problems"]) == 1
    assert "the chat template of" in found["problems"][0]


def test_a_tokenizer_of_another_model(capsys: pytest.CaptureFixture[str], copied: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(copied)
    tokenizer.add_tokens([f"word{number}" for number in range(99)])
    tokenizer.save_pretrained(copied)
    status, found = check(capsys, copied)
    assert status == 1 and len(found["problems"]) == 1 and found["family"] is None
    assert "resize_token_embeddings" in found["problems"][0]


def test_ids_that_are_not_the_models_own(
    capsys: pytest.CaptureFixture[str], llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Encoder.tokenize

    def without_start(self: Encoder, text: str, example: Any) -> Any:
        return whole(self, text.removeprefix("<|begin_of_text|>"), example)

    monkeypatch.setattr(Encoder, "tokenize", without_start)
    status, found = check(capsys, llama)
    assert status == 1 and found["ids_equal"] is False and found["step"]
    assert "at token 0: '<|start_header_id|>' (id" in found["problems"][0]
    assert "'<|begin_of_text|>' (id" in found["problems"][0]


def test_another_loss_step_or_export(
    capsys: pytest.CaptureFixture[str], llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        loss = encoding.answer_loss
        patch.setattr(encoding, "answer_loss", lambda *given: loss(*given) + 0.001)
        status, found = check(capsys, llama)
    assert status == 1 and found["loss_difference"] == pytest.approx(0.001, abs=1e-5)
    assert "in plain transformers" in found["problems"][0] and found["export"]
    with monkeypatch.context() as patch:
        patch.setattr(training, "PAIR", ("global",))
        status, found = check(capsys, llama)
    assert status == 1 and found["step"] and not found["export"]
    assert "gives other logits in plain PEFT" in found["problems"][0]
    with monkeypatch.context() as patch:
        patch.setattr(training.Optimiser, "step", lambda self, factor: None)
        status, found = check(capsys, llama)
    assert status == 1 and not found["step"] and "changes no adapter" in found["problems"][0]
    with monkeypatch.context() as patch:
        patch.setattr(training.Optimiser, "step", _broken)
        status, found = check(capsys, llama)
    assert status == 1 and "a training step fails (RuntimeError: no kernel" in str(found)


def _broken(self: Any, factor: float) -> None:
    raise RuntimeError("no kernel\nand a second line")


def test_weights_that_are_not_finite(capsys: pytest.CaptureFixture[str], copied: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(copied / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"][0] = torch.nan
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    status, found = check(capsys, copied)
    assert status == 1 and not found["step"] and found["signature"] == "no"
    assert "loss is not finite" in found["problems"][0] and len(found["problems"]) == 2
    assert "float32" not in found["problems"][0] and found["loss_difference"] is None
    status, found = check(capsys, copied, "--dtype", "float16")
    assert "float16 is too narrow for it (--dtype float32)" in found["problems"][0]
