"""Test saved Co-LoRA folders in Transformers: loaded with their A and B, or refused."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from peft import PeftConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from fedmosaic.adapters import activate, calibrate, load_shared, read_state, shared_state
from fedmosaic.errors import ModelError

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def saved(pair, base, inputs, family: str, tmp_path: Path):
    """Return a base model's class and folder, the folders of its pair, and the pair's model."""
    kind = AutoModelForImageTextToText if "llava" in family else AutoModelForCausalLM
    base(family).save_pretrained(tmp_path / "base")
    model = pair(family)
    model.peft_config["local"].base_model_name_or_path = str(tmp_path / "base")
    calibrate(model, [inputs(family)])
    # As after an alignment: no seed gives these A and B back.
    load_shared(model, {k: v + 0.1 * torch.randn_like(v) for k, v in shared_state(model).items()})
    model.save_pretrained(tmp_path)
    return kind, tmp_path, model


def test_load_adapter_brings_a_and_b(saved, inputs, family: str) -> None:
    kind, folder, model = saved
    batch = inputs(family)
    plain = kind.from_pretrained(folder / "base").eval()
    info = plain.load_adapter(str(folder / "local"), adapter_name="local")
    assert not (info.missing_keys or info.unexpected_keys or info.mismatched_keys)
    activate(model, "local")
    assert torch.equal(plain(**batch).logits, model(**batch).logits)
    plain.load_adapter(str(folder / "global"), adapter_name="global")
    plain.set_adapter(["local", "global"])
    activate(model, "local", "global")
    assert torch.equal(plain(**batch).logits, model(**batch).logits)


def test_from_pretrained_with_the_adapters_folder(saved, inputs, family: str) -> None:
    kind, folder, model = saved
    activate(model, "local")
    loaded = kind.from_pretrained(folder / "local").eval()
    assert torch.equal(loaded(**inputs(family)).logits, model(**inputs(family)).logits)


@pytest.mark.parametrize("family", ["llama"])
@pytest.mark.parametrize("trainable", [False, True])
def test_a_folder_without_a_and_b_is_refused(saved, inputs, trainable: bool) -> None:
    kind, folder, _ = saved
    tensors = load_file(folder / "local" / WEIGHTS)
    save_file(
        {key: value for key, value in tensors.items() if "shared_colora" not in key},
        folder / "local" / WEIGHTS,
    )
    plain = kind.from_pretrained(folder / "base")
    with pytest.raises(ModelError, match="loaded without its frozen A"):
        PeftModel.from_pretrained(plain, folder / "local", is_trainable=trainable)
    plain = kind.from_pretrained(folder / "base")
    with pytest.raises(ModelError, match="loaded without its frozen A"):
        plain.load_adapter(str(folder / "local"), is_trainable=trainable)
        plain(**inputs("llama"))


@pytest.mark.parametrize("family", ["llama"])
def test_a_folder_of_an_earlier_version(saved, inputs) -> None:
    kind, folder, model = saved
    tensors = load_file(folder / "local" / WEIGHTS)
    former = {key.replace("shared_colora", "colora_shared"): v for key, v in tensors.items()}
    assert former.keys() != tensors.keys()
    save_file(former, folder / "local" / WEIGHTS)
    config = folder / "local" / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "peft_type": "COLORA"}))
    loaded = PeftModel.from_pretrained(kind.from_pretrained(folder / "base"), folder / "local")
    activate(model, "local")
    assert torch.equal(loaded(**inputs("llama")).logits, model(**inputs("llama")).logits)
    with pytest.raises(ModelError, match=r"peft\.PeftModel\.from_pretrained and save it again"):
        kind.from_pretrained(folder / "base").load_adapter(str(folder / "local"))


@pytest.mark.parametrize("family", ["llama"])
def test_another_subspace_is_refused(saved, pair, inputs) -> None:
    kind, folder, _ = saved
    pair("llama", seed=1).save_pretrained(folder / "other")
    other = str(folder / "other" / "global")
    plain = kind.from_pretrained(folder / "base").eval()
    plain.load_adapter(str(folder / "local"), adapter_name="local")
    with pytest.raises(ModelError, match="another subspace than local"):
        plain.load_adapter(other, adapter_name="global")
    with pytest.raises(ModelError, match="another subspace than local"):
        plain(**inputs("llama"))
    plain = kind.from_pretrained(folder / "base").eval()
    model = PeftModel.from_pretrained(plain, folder / "local", adapter_name="local")
    before = model(**inputs("llama")).logits
    with pytest.raises(ModelError, match="another subspace than local"):
        model.load_adapter(other, adapter_name="global")
    activate(model, "local")
    assert torch.equal(model(**inputs("llama")).logits, before), "the earlier adapter stays"


@pytest.mark.parametrize("family", ["llama"])
def test_a_new_adapter_with_the_settings_of_a_saved_one(saved, base, inputs) -> None:
    _, folder, model = saved
    config = PeftConfig.from_pretrained(folder / "local")
    with pytest.raises(ModelError, match="peft_version=None"):
        get_peft_model(base("llama"), config)(**inputs("llama"))
    new = dataclasses.replace(config, peft_version=None, inference_mode=False)
    fresh = get_peft_model(base("llama"), new, adapter_name="local")
    assert fresh(**inputs("llama")).logits.isfinite().all()
    assert read_state(fresh, "local").keys() == read_state(model, "local").keys()


@pytest.mark.parametrize("family", ["llama"])
def test_without_the_import_the_error_says_what_to_import(saved) -> None:
    _, folder, _ = saved
    code = """
        import sys
        sys.modules["fedmosaic"] = None  # an import of it fails
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        def base():
            return AutoModelForCausalLM.from_pretrained("base")

        ways = [
            lambda: PeftModel.from_pretrained(base(), "local"),
            lambda: base().load_adapter("local"),
            lambda: AutoModelForCausalLM.from_pretrained("local"),
        ]
        for way in ways:
            try:
                way()
            except Exception as error:
                assert "run 'import fedmosaic.adapters' before loading" in str(error), error
            else:
                raise SystemExit("loaded without Co-LoRA")
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)]
    subprocess.run(command, check=True, cwd=folder)
