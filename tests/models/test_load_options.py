"""Test how models are loaded: attention, placement, LoRA folders, revisions, checkpointing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from accelerate import dispatch_model
from checkpoints import MINIATURE, edit_json, edit_weights, language_model
from peft import LoraConfig, get_peft_model

from fedmosaic.data import Example, Image, Turn
from fedmosaic.errors import ModelError
from fedmosaic.models import loading, options
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.checkpointing import recompute_activations
from fedmosaic.models.loading import ModelOptions, load_pretrained, locate
from fedmosaic.models.names import Source
from fedmosaic.training.loss import answer_loss

CPU = ModelOptions(device="cpu")


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.arange(2, 30)[None]).logits
    return found


def test_the_attention_implementation_is_chosen() -> None:
    usual, _, _ = load_pretrained(MINIATURE, CPU)
    eager, _, _ = load_pretrained(
        MINIATURE, ModelOptions(device="cpu", attn_implementation="eager")
    )
    assert usual.config._attn_implementation == "sdpa"
    assert eager.config.get_text_config()._attn_implementation == "eager"
    torch.testing.assert_close(logits(eager), logits(usual), rtol=1e-4, atol=1e-4)
    with pytest.raises(
        ModelError, match=r"models\.attn_implementation: fastest .*use auto, eager, sdpa"
    ):
        load_pretrained(MINIATURE, ModelOptions(device="cpu", attn_implementation="fastest"))


class Stop(Exception):
    """Ends a load at the call that is looked at."""


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the arguments that the model was to be loaded with, on a machine with CUDA."""
    seen: dict[str, Any] = {}

    def load(*_: Any, **arguments: Any) -> Any:
        seen.update(arguments)
        raise Stop

    for loader in (transformers.AutoModelForCausalLM, transformers.AutoModelForImageTextToText):
        monkeypatch.setattr(loader, "from_pretrained", load)
    monkeypatch.setattr(options.torch.cuda, "is_available", lambda: True)
    return seen


def test_a_model_is_spread_over_the_cards(passed: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="Stop"):
        load_pretrained(MINIATURE, ModelOptions(device_map="auto", dtype="float16"))
    assert passed["device_map"] == "auto" and passed["dtype"] == torch.float16
    passed.clear()
    with pytest.raises(ModelError, match="Stop"):
        load_pretrained(MINIATURE, ModelOptions())
    assert "device_map" not in passed and passed["use_safetensors"] is True
    with pytest.raises(ModelError, match="names one card"):
        load_pretrained(MINIATURE, ModelOptions(device="cuda:1", device_map="auto"))
    with pytest.raises(ModelError, match="device_map='all' is not valid"):
        load_pretrained(MINIATURE, ModelOptions(device_map="all"))


def test_a_model_that_does_not_fit_on_the_cards_is_refused() -> None:
    model, _, _ = load_pretrained(MINIATURE, CPU)
    model.hf_device_map = {"model.layers.0": 0, "model.layers.1": "cpu"}
    with pytest.raises(ModelError, match=r"1 of its 2 parts .*e\.g\. model\.layers\.1"):
        loading._check_places("m", model)
    model.hf_device_map = {"": "cpu"}
    loading._check_places("m", model)


def test_forks_of_a_spread_model_run_their_own_layers() -> None:
    """accelerate replaces the forward passes of modules by ones bound to the module."""
    model, tokenizer, processor = load_pretrained(MINIATURE, CPU)
    backbone = Backbone("m", model, tokenizer, processor)
    inner = model.model.language_model
    parts = ["model.vision_tower", "model.multi_modal_projector", "lm_head"]
    parts += [
        f"model.language_model.{name}" for name, _ in inner.named_children() if name != "layers"
    ]
    parts += [f"model.language_model.layers.{number}" for number in range(len(inner.layers))]
    dispatch_model(model, dict.fromkeys(parts, "cpu"), main_device="cpu", force_hooks=True)
    fork = backbone.fork()
    layer = fork.model.language_model.layers[0]
    assert hasattr(layer, "_hf_hook") and layer._old_forward.__self__ is layer
    expected = logits(fork)
    layer.register_forward_hook(lambda *call: 2 * call[-1])
    assert torch.equal(logits(model), expected) and not torch.equal(logits(fork), expected)


def test_a_revision_of_a_hub_model_is_loaded(passed: dict[str, Any]) -> None:
    assert locate("owner/name@v1") == Source("owner/name", None, "v1")
    assert locate("owner/name") == Source("owner/name", None, None)
    assert loading._common(locate("owner/name@v1"), CPU)["revision"] == "v1"


def lora_folder(folder: Path, base: Path, **changes: Any) -> Path:
    """Save a LoRA with random weights for a language model, and what the model with it says."""
    model, _, _ = load_pretrained(str(base), CPU)
    config = LoraConfig(
        r=4, lora_alpha=6, target_modules=["q_proj", "down_proj"], init_lora_weights=False,
        **changes,
    )  # fmt: skip
    adapted = get_peft_model(model, config).eval()
    adapted.save_pretrained(folder)
    torch.save(logits(adapted), folder / "expected.pt")
    edit_json(folder / "adapter_config.json", lambda c: c.update(base_model_name_or_path=str(base)))
    return folder


@pytest.mark.parametrize("changes", [{}, {"use_dora": True}, {"modules_to_save": ["lm_head"]}])
def test_a_lora_folder_is_its_base_with_the_lora_merged_in(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    base = language_model(tmp_path / "base")
    folder = lora_folder(tmp_path / "lora", base, **changes)
    model, tokenizer, processor = load_pretrained(str(folder), CPU)
    expected = torch.load(folder / "expected.pt")
    torch.testing.assert_close(logits(model), expected, rtol=1e-5, atol=1e-5)
    plain, _, _ = load_pretrained(str(base), CPU)
    assert (logits(plain) - expected).abs().max() > 0.01
    assert [name for name, _ in model.named_parameters()] == [
        name for name, _ in plain.named_parameters()
    ]
    assert not any(p.requires_grad for p in model.parameters()) and not model.training
    assert len(tokenizer) == 610 and processor is None
    assert Backbone.load(str(folder), CPU).fingerprint != Backbone.load(str(base), CPU).fingerprint


def test_a_lora_folder_that_does_not_work_is_refused(tmp_path: Path) -> None:
    base = language_model(tmp_path / "base")
    folder = lora_folder(tmp_path / "my lora", base)
    config, weights = folder / "adapter_config.json", folder / "adapter_model.safetensors"

    def refused(message: str) -> None:
        with pytest.raises(ModelError, match=message) as caught:
            load_pretrained(str(folder), CPU)
        assert "my lora" in str(caught.value) and "\n" not in str(caught.value)

    edit_weights(weights, lambda t: t.pop(sorted(t)[0]))
    refused(r"does not fit its base model .*1 of its weights are on one side only")
    edit_json(config, lambda c: c.update(base_model_name_or_path=str(tmp_path / "gone")))
    refused(r"is an adapter, and its base: model .*gone")
    edit_json(config, lambda c: c.update(base_model_name_or_path=str(folder)))
    refused("names itself")
    edit_json(config, lambda c: c.update(base_model_name_or_path=None))
    refused("names no base model")
    edit_json(config, lambda c: c.update(peft_type="IA3"))
    refused(r"adapter of the type 'IA3', and only LoRA is merged.*merge_and_unload")
    edit_json(config, lambda c: c.update(peft_type="LORA"))
    weights.rename(folder / "adapter_model.bin")
    refused(r"adapter without adapter_model\.safetensors")


def test_a_lora_of_another_models_shape_is_refused(tmp_path: Path) -> None:
    folder = lora_folder(tmp_path / "my lora", language_model(tmp_path / "base"))
    other = language_model(tmp_path / "other", hidden_size=32)
    edit_json(
        folder / "adapter_config.json", lambda c: c.update(base_model_name_or_path=str(other))
    )
    with pytest.raises(ModelError, match=r"does not fit its base model .*size mismatch") as caught:
        load_pretrained(str(folder), CPU)
    assert "\n" not in str(caught.value)


def question() -> Example:
    pixels = np.random.default_rng(0).integers(0, 255, (60, 60, 3), dtype=np.uint8)
    turns = (Turn("user", "<image> what colour?"), Turn("assistant", "red"))
    return Example("e", turns, (Image(pixels),))


@pytest.mark.parametrize("wrapped", [True, False])
def test_checkpointing_recomputes_layers_and_changes_no_gradient(wrapped: bool) -> None:
    """Both ways: adapters of PEFT on a vision-language model, and its own trained weights."""
    backbone = Backbone.load(MINIATURE, CPU)
    found = []
    for checkpointing in (False, True):
        model, calls = backbone.fork(), []
        torch.manual_seed(0)
        if wrapped:
            config = LoraConfig(target_modules=["down_proj"], init_lora_weights=False)
            trained = get_peft_model(model, config)
        else:
            trained = model
            weight = model.model.language_model.layers[0].mlp.down_proj.weight
            model.model.language_model.layers[0].mlp.down_proj.weight = torch.nn.Parameter(
                weight.detach().clone()
            )
        if checkpointing:
            recompute_activations("m", model)
        layer = model.model.language_model.layers[3].self_attn.q_proj
        layer.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        loss = answer_loss(
            trained.train(), backbone, backbone.collate([backbone.encode(question())])
        )
        loss.backward()
        assert len(calls) == 1 + checkpointing
        found.append([p.grad for p in trained.parameters() if p.grad is not None])
    assert len(found[0]) == len(found[1]) > 0
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_family_without_checkpointing_is_refused() -> None:
    model, _, _ = load_pretrained(MINIATURE, CPU)
    model.supports_gradient_checkpointing = False
    with pytest.raises(ModelError, match=r"models\.gradient_checkpointing: false"):
        recompute_activations("m", model)


def test_a_batch_goes_where_the_embeddings_are() -> None:
    """Which is the first card, while the head may be on the last."""
    backbone = Backbone.load(MINIATURE, CPU)
    backbone.model.config.tie_word_embeddings = False
    backbone.model.lm_head.weight = torch.nn.Parameter(
        torch.empty(610, 96, device="meta"), requires_grad=False
    )
    assert backbone.device == torch.device("cpu") != backbone.lm_head.weight.device


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_of_loading_is_drawn_where_it_is_seen(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    terminal: bool,
) -> None:
    language_model(tmp_path)
    transformers.utils.logging.enable_progress_bar()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    load_pretrained(str(tmp_path), CPU)
    assert ("Loading weights" in capsys.readouterr().err) is terminal
