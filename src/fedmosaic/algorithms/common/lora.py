"""Build ordinary LoRA on a backbone: the adapter of all algorithms but FedMosaic."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from fedmosaic.adapters import adapter_parameters
from fedmosaic.adapters.keys import in_scope
from fedmosaic.adapters.targets import pattern, targets
from fedmosaic.config import AdapterSettings
from fedmosaic.data.example import Example
from fedmosaic.models.backbone import Backbone
from fedmosaic.seeding import seed_for
from fedmosaic.training.optimiser import ParameterGroup


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Hide a warning of PEFT 0.21, which reads a name that transformers 5 deprecates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def target_pattern(backbone: Backbone, settings: AdapterSettings) -> str:
    """Return a regular expression for the adapted modules (:mod:`fedmosaic.adapters.targets`)."""
    return pattern(backbone, settings.target_modules)


def model_inputs(
    backbone: Backbone, examples: Sequence[Example], size: int = 16
) -> Iterator[dict[str, Any]]:
    """Yield the examples as keyword arguments of the model, in batches of ``size``."""
    for start in range(0, len(examples), size):
        batch = backbone.collate(
            [backbone.encode(example) for example in examples[start : start + size]]
        )
        yield {**batch.inputs, "use_cache": False}


def lora_config(backbone: Backbone, settings: AdapterSettings) -> Any:
    """Return PEFT's configuration of LoRA as the scenario's ``adapter`` section has it."""
    from peft import LoraConfig

    return LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]
        lora_dropout=settings.dropout,
        target_modules=target_pattern(backbone, settings),
        bias="none",
        fan_in_fan_out=transposed(backbone, settings),
    )


def transposed(backbone: Backbone, settings: AdapterSettings) -> bool:
    """Return whether the adapted modules keep their weights transposed, as those of GPT-2 do."""
    chosen = targets(backbone, settings.target_modules)
    return any(isinstance(module.module, Conv1D) for layer in chosen for module in layer)


def build_lora(
    backbone: Backbone, settings: AdapterSettings, seed: int, names: Sequence[str] = ("local",)
) -> Any:
    """Put PEFT LoRA adapters on a fork of the backbone; equal seeds give equal adapters.

    Args:
        backbone: the bare base model.
        settings: the scenario's ``adapter`` section.
        seed: of the run.
        names: of the adapters; the first is active.

    Returns:
        the PEFT model in evaluation mode.
    """
    from peft import get_peft_model

    config = lora_config(backbone, settings)
    with quiet_peft(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "lora", backbone.identity))
        model = get_peft_model(backbone.fork(), config, adapter_name=names[0])
        for name in names[1:]:
            model.add_adapter(name, config)
    model.set_adapter(names[0])
    return model.eval()


def parameter_groups(
    model: Any, adapter: str, *, personal: bool = False, objective: str = ""
) -> list[ParameterGroup]:
    """Return an adapter's parameters by role.

    The roles are ``lora`` (A and B), ``shared`` (P and Q of Co-LoRA) and ``gate`` (β).

    Args:
        model: the PEFT model.
        adapter: its name.
        personal: whether Adam's moments last when downloads replace weights.
        objective: names the loss that trains these parameters, where there are several.
    """
    parameters = adapter_parameters(model, adapter)
    roles = {
        "lora": in_scope(parameters, "layer"),
        "shared": in_scope(parameters, "block"),
        "gate": in_scope(parameters, "gate"),
    }
    return [
        ParameterGroup(role, found, personal, objective) for role, found in roles.items() if found
    ]
