"""Test that adapters are saved and loaded exactly, and only with A and B of their own subspace."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import pytest
import torch
from peft import PeftConfig, PeftModel, get_peft_model
from peft.utils import PeftType
from safetensors.torch import load_file

from fedmosaic.adapters import (
    CoLoraConfig,
    activate,
    calibrate,
    load_shared,
    read_state,
    register,
    shared_state,
)
from fedmosaic.adapters.register import peft_type
from fedmosaic.errors import ConfigError, ModelError


def reload(base, family: str, folder) -> PeftModel:
    model = PeftModel.from_pretrained(
        base(family), folder / "local", adapter_name="local", is_trainable=True
    )
    model.load_adapter(folder / "global", "global")
    activate(model, "local", "global")
    return model.eval()


@pytest.mark.parametrize(
    "options", [{}, {"shared_init": "svd"}, {"gate": "input"}, {"gate_init": 0.5}]
)
def test_saved_and_loaded_exactly(pair, base, inputs, family: str, options, tmp_path) -> None:
    batch = inputs(family)
    model = pair(family, **options)
    calibrate(model, [batch])
    drawn = {k: v + 0.1 * torch.randn_like(v) for k, v in shared_state(model).items()}
    load_shared(model, drawn)  # as after an alignment: no seed gives these back
    model.save_pretrained(tmp_path)
    reloaded = reload(base, family, tmp_path)
    for name in ("local", "global"):
        theirs = read_state(model, name, gates=True)
        for key, value in read_state(reloaded, name, gates=True).items():
            assert torch.equal(value, theirs[key]), key
    for key, value in shared_state(reloaded).items():
        assert torch.equal(value, drawn[key]), key
    assert torch.equal(reloaded(**batch).logits, model(**batch).logits)
    trained = {name for name, p in reloaded.named_parameters() if p.requires_grad}
    assert trained and all(".local" in name for name in trained)


def test_global_folder_has_no_gate(pair, tmp_path) -> None:
    pair("llama").save_pretrained(tmp_path)
    assert any("beta" in key for key in load_file(tmp_path / "local" / "adapter_model.safetensors"))
    saved = load_file(tmp_path / "global" / "adapter_model.safetensors")
    assert not any("beta" in key for key in saved)
    assert sum("shared_colora" in key for key in saved) == 2 * 2 * 7


def test_adapter_of_another_subspace_is_refused(pair, base, tmp_path) -> None:
    pair("llama", seed=0).save_pretrained(tmp_path / "a")
    pair("llama", seed=1).save_pretrained(tmp_path / "b")
    model = PeftModel.from_pretrained(base("llama"), tmp_path / "a" / "local", adapter_name="local")
    with pytest.raises(ModelError, match="another subspace than local"):
        model.load_adapter(tmp_path / "b" / "global", "global")


def test_config_roundtrip(tmp_path) -> None:
    config = CoLoraConfig(
        r=5,
        block_layers=[3, 1],
        gate="input",
        b_scale=0.5,
        target_modules=["q_proj", "o_proj"],
    )
    config.save_pretrained(tmp_path)
    reloaded = PeftConfig.from_pretrained(tmp_path)
    assert isinstance(reloaded, CoLoraConfig)
    assert reloaded.to_dict() == config.to_dict()
    assert reloaded.peft_type is PeftType.COLORA


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gate": "scaler"}, "Did you mean 'scalar'"),
        ({"shared_init": "svdd"}, "Did you mean 'svd'"),
        ({"r": 0}, "r is 0"),
        ({"lora_dropout": 1.0}, "lora_dropout is 1.0"),
        ({"block_layers": "some"}, "block_layers is 'some'"),
        ({"b_scale": 0.0}, "b_scale is 0.0"),
        ({"local_name": "global"}, "must differ"),
    ],
)
def test_bad_options(options, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CoLoraConfig(**options)


def test_registering_twice_changes_nothing() -> None:
    members = list(PeftType)
    register()
    assert peft_type() is PeftType.COLORA is PeftType("COLORA") is PeftType["COLORA"]
    assert list(PeftType) == members and members.count(PeftType.COLORA) == 1
    assert PeftType.COLORA.value == "COLORA" == PeftType.COLORA and isinstance(
        PeftType.COLORA, PeftType
    )
    assert pickle.loads(pickle.dumps(PeftType.COLORA)) is PeftType.COLORA
    assert json.dumps(PeftType.COLORA) == '"COLORA"'


def test_importing_the_package_is_enough_for_peft(pair, tmp_path) -> None:
    pair("llama").save_pretrained(tmp_path)
    code = (
        "import fedmosaic.adapters, peft, sys\n"
        "config = peft.PeftConfig.from_pretrained(sys.argv[1])\n"
        "assert type(config).__name__ == 'CoLoraConfig' and config.r == 4, config"
    )
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "local")], check=True
    )


def test_loading_under_another_name_and_a_single_adapter(base, filled, inputs, tmp_path) -> None:
    batch = inputs("llama")
    model = filled(
        get_peft_model(base("llama"), CoLoraConfig(r=4, num_blocks=2), adapter_name="mine"), "mine"
    ).eval()
    model.save_pretrained(tmp_path)
    reloaded = PeftModel.from_pretrained(base("llama"), tmp_path / "mine", adapter_name="yours")
    assert torch.equal(reloaded(**batch).logits, model(**batch).logits)
    assert not any("beta" in key for key in model.state_dict())
