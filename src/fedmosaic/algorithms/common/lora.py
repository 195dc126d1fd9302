"""Ordinary LoRA on every layer of a backbone: the adapter of all algorithms but FedMosaic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from fedmosaic.adapters import adapter_parameters
from fedmosaic.adapters.placement import PROJECTIONS
from fedmosaic.config import AdapterSettings
from fedmosaic.data.example import Example
from fedmosaic.models.backbone import Backbone
from fedmosaic.seeding import seed_for
from fedmosaic.training.optimiser import ParameterGroup


def target_pattern(backbone: Backbone, settings: AdapterSettings) -> str:
    """A regular expression for the adapted modules: those of the language model's layers, never of the vision tower."""
    names = "|".join(settings.target_modules or PROJECTIONS)
    prefix = backbone.layers_prefix.replace(".", r"\.")
    return rf"{prefix}\.\d+\..*\.({names})"


def model_inputs(
    backbone: Backbone, examples: Sequence[Example], size: int = 16
) -> Iterator[dict[str, Any]]:
    """The examples as keyword arguments of the model, batch by batch."""
    for start in range(0, len(examples), size):
        batch = backbone.collate(
            [backbone.encode(example) for example in examples[start : start + size]]
        )
        yield {
            "inputs_embeds": backbone.embed(batch),
            "attention_mask": batch.attention_mask,
            "use_cache": False,
        }


def build_lora(
    backbone: Backbone, settings: AdapterSettings, seed: int, names: Sequence[str] = ("local",)
) -> Any:
    """PEFT LoRA adapters ``names`` on a fork of the backbone; the first is active. Equal seeds give equal adapters."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]
        lora_dropout=settings.dropout,
        target_modules=target_pattern(backbone, settings),
        bias="none",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "lora", backbone.identity))
        model = get_peft_model(backbone.fork(), config, adapter_name=names[0])
        for name in names[1:]:
            model.add_adapter(name, config)
    model.set_adapter(names[0])
    return model.eval()


def parameter_groups(
    model: Any, adapter: str, *, personal: bool = False, objective: str = ""
) -> list[ParameterGroup]:
    """The adapter's parameters by what they are: ``lora`` (A, B), ``shared`` (P, Q of Co-LoRA) and ``gate`` (β)."""
    roles: dict[str, dict[str, Any]] = {"lora": {}, "shared": {}, "gate": {}}
    for key, parameter in adapter_parameters(model, adapter).items():
        roles[{"block": "shared", "gate": "gate"}.get(key.partition(".")[0], "lora")][key] = (
            parameter
        )
    return [
        ParameterGroup(role, parameters, personal, objective)
        for role, parameters in roles.items()
        if parameters
    ]
