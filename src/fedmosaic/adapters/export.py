"""Export trained adapters as one ordinary PEFT LoRA, which loads without this library.

The exported LoRA gives the same logits. Co-LoRA is a LoRA with ``A' = s P A``, ``B' = B`` and the
bias ``s B Q``. The scalar-gated pair is mixed first: on Co-LoRA layers in P and Q (rank r), on
ordinary LoRA layers by stacking ``[A_l; A_g]`` and ``[(1 - g) s B_l, g s B_g]`` (rank 2 r).
Several of PEFT's own LoRA adapters are stacked likewise, each with its present scale. All scales go
into the weights, so the exported adapter has ``alpha = r`` everywhere.

The layout ``vllm`` is for servers that take one rank and no bias: A and B of lower rank are filled
up with zeros, and modules are named by their leaf names.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from peft import LoraConfig, PeftConfig, PeftModel, PeftType, get_peft_model_state_dict
from peft.tuners.lora.layer import LoraLayer, ParamWrapper
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import pad
from transformers.pytorch_utils import Conv1D

from fedmosaic.adapters.export_check import check_loads
from fedmosaic.adapters.exported import ExportedLora
from fedmosaic.adapters.layer import AdaptedLinear
from fedmosaic.adapters.linear import CoLoraLinear, LoraLinear
from fedmosaic.adapters.mixer import token_mixer
from fedmosaic.errors import ModelError
from fedmosaic.files import atomic_folder

Layout = Literal["peft", "vllm"]
"""``peft``: ranks differ and a bias is kept; ``vllm``: one rank, no bias, plain module names."""

Factors = tuple[Tensor, Tensor, Tensor]
"""A ``[rank, d_in]``, B ``[d_out, rank]`` and bias ``[d_out]`` of one layer: scale 1, float64."""


def export_lora(
    model: PeftModel,
    adapter: str | tuple[str, ...] = ("local", "global"),
    *,
    dtype: torch.dtype = torch.float32,
    layout: Layout = "peft",
) -> tuple[LoraConfig, dict[str, Tensor]]:
    """Return one ordinary LoRA equal to an adapter, to the gated pair, or to a sum of adapters.

    Args:
        model: A PeftModel with Co-LoRA layers or with PEFT's own LoRA layers. A single adapter of
            PEFT's own is copied as it is, in the layout ``peft``.
        adapter: One name; or the names of the pair, which is mixed by its gate; or the names of
            other adapters, which are added up.
        dtype: Type of the exported tensors; products are formed in float64.
        layout: ``peft``, or ``vllm`` for vLLM, llama.cpp and merging.

    Returns:
        The config, and the state dict under PEFT's names, such as
        ``base_model.model.<module>.lora_A.weight``.

    Raises:
        ModelError: for an unknown adapter, the pair of an input-dependent gate (its mix is not one
            LoRA), a config that also trains biases or whole modules, an adapter that plain PEFT
            cannot load, or with ``vllm`` a Q that makes a bias.
    """
    names = [adapter] if isinstance(adapter, str) else list(adapter)
    copied = layout == "peft" and _is_one_lora(model, names)
    _check_exportable(model, names, copied)
    config = model.peft_config[names[0]]
    if copied:
        state = get_peft_model_state_dict(model, adapter_name=names[0])
        exported = copy.deepcopy(config)
        tensors = {key: value.detach().to("cpu", copy=True) for key, value in state.items()}
    else:
        factors = _layer_factors(model, names)
        if layout == "vllm":
            factors = _at_one_rank(factors)
        exported = _lora_config(config, factors)
        _name_modules(exported, model, factors, layout)
        tensors = _lora_state(factors, dtype)
    check_loads(model, exported, tensors)
    return exported, tensors


def _is_one_lora(model: PeftModel, names: Sequence[str]) -> bool:
    config = model.peft_config.get(names[0])
    return len(names) == 1 and config is not None and config.peft_type == PeftType.LORA


def _check_exportable(model: PeftModel, names: Sequence[str], copied: bool) -> None:
    for name in names:
        if name not in model.peft_config:
            raise ModelError(
                f"The model has no adapter {name!r}; "
                f"it has {', '.join(map(repr, model.peft_config))}."
            )
    config = model.peft_config[names[0]]
    if copied:
        return
    if config.peft_type not in (PeftType.COLORA, PeftType.LORA):
        raise ModelError(
            f"Adapter {names[0]!r} is of type {config.peft_type.value}; "
            "only Co-LoRA and LoRA can be exported."
        )
    if config.modules_to_save or config.bias != "none":
        raise ModelError(
            "An adapter with modules_to_save or trained biases is more than a LoRA and cannot be "
            "exported as one."
        )


def _layer_factors(model: PeftModel, names: list[str]) -> dict[str, Factors]:
    """Return the LoRA factors of every adapted layer by its path."""
    factors: dict[str, Factors] = {}
    for path, layer in model.base_model.model.named_modules():
        if isinstance(layer, AdaptedLinear) and any(layer.has(name) for name in names):
            if layer.merged:
                raise ModelError(
                    "Adapters are merged into the model: unmerge them before exporting."
                )
            factors[path] = _factors_of_ours(layer, layer.coefficients(names))
        elif isinstance(layer, LoraLayer) and any(name in layer.lora_A for name in names):
            present = [name for name in names if name in layer.lora_A]
            factors[path] = _factors_of_peft(path, layer, present)
    if not factors:
        raise ModelError(f"No layer of the model carries {' or '.join(map(repr, names))}.")
    return factors


def _at_one_rank(factors: Mapping[str, Factors]) -> dict[str, Factors]:
    """Fill A and B of all layers up with zeros to the highest rank.

    Raises:
        ModelError: a layer has a bias.
    """
    biased = [path for path, (_, _, bias) in factors.items() if bool(bias.any())]
    if biased:
        raise ModelError(
            f"Q makes a bias (s B Q) on {len(biased)} modules, such as {biased[0]}, and vLLM, "
            "llama.cpp and merging take a LoRA without bias only: train with adapter.q: false, "
            "or export for PEFT, which keeps the bias."
        )
    rank = max(a.shape[0] for a, _, _ in factors.values())
    return {
        path: (pad(a, (0, 0, 0, rank - a.shape[0])), pad(b, (0, rank - b.shape[1])), bias)
        for path, (a, b, bias) in factors.items()
    }


def _name_modules(
    config: LoraConfig, model: PeftModel, factors: Mapping[str, Factors], layout: Layout
) -> None:
    """Name the adapted modules in the config: by paths, or by leaf names and the paths to leave."""
    modules = dict(model.base_model.model.named_modules())
    bases = [m.get_base_layer() for p, m in modules.items() if p in factors]  # type: ignore[operator]
    config.fan_in_fan_out = any(isinstance(base, Conv1D) for base in bases)
    if layout == "vllm":
        leaves = {path.rpartition(".")[2] for path in factors}
        config.target_modules = leaves
        config.exclude_modules = sorted(
            path for path in modules if path.rpartition(".")[2] in leaves and path not in factors
        )


def _has_bias(factors: Mapping[str, Factors]) -> bool:
    return any(bool(bias.any()) for _, _, bias in factors.values())


def _lora_config(config: PeftConfig, factors: Mapping[str, Factors]) -> LoraConfig:
    """Return the config of the exported LoRA; layers of another rank are listed in patterns."""
    ranks = {path: a.shape[0] for path, (a, _, _) in factors.items()}
    usual = Counter(ranks.values()).most_common(1)[0][0]
    others = {path: rank for path, rank in ranks.items() if rank != usual}
    return LoraConfig(
        r=usual,
        lora_alpha=usual,
        target_modules=sorted(factors),
        rank_pattern=others,
        alpha_pattern=dict(others),
        lora_bias=_has_bias(factors),
        task_type=config.task_type,
        base_model_name_or_path=config.base_model_name_or_path,
        inference_mode=True,
    )


def _lora_state(factors: Mapping[str, Factors], dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the state dict of the exported LoRA under PEFT's names."""
    lora_bias = _has_bias(factors)
    state = {}
    for path, (a, b, bias) in factors.items():
        prefix = f"base_model.model.{path}"
        state[f"{prefix}.lora_A.weight"] = a.to("cpu", dtype).contiguous()
        state[f"{prefix}.lora_B.weight"] = b.to("cpu", dtype).contiguous()
        if lora_bias:  # PEFT's lora_bias holds for all layers or for none
            state[f"{prefix}.lora_B.bias"] = bias.to("cpu", dtype).contiguous()
    return state


def export_to_folder(
    model: PeftModel,
    folder: str | Path,
    adapter: str | tuple[str, ...] = ("local", "global"),
    *,
    dtype: torch.dtype = torch.float32,
    layout: Layout = "peft",
    base_model: str | None = None,
) -> Path:
    """Write :func:`export_lora` as a folder that ``PeftModel.from_pretrained(base, folder)`` loads.

    Args:
        model: As of ``export_lora``, as are ``adapter``, ``dtype`` and ``layout``.
        folder: The folder to write.
        adapter: What to export.
        dtype: Type of the tensors.
        layout: ``peft`` or ``vllm``.
        base_model: Name of the base model in the config; None: as in the adapter's config.

    Returns:
        The folder; it appears complete or not at all.

    Raises:
        ModelError: as ``export_lora``.
    """
    config, state = export_lora(model, adapter, dtype=dtype, layout=layout)
    if base_model is not None:
        config.base_model_name_or_path = base_model
    target = Path(folder)
    with atomic_folder(target) as temporary:
        save_file(state, str(temporary / "adapter_model.safetensors"), metadata={"format": "pt"})
        config.inference_mode = True
        config.save_pretrained(str(temporary))
        problems = ExportedLora.read(temporary).server_problems() if layout == "vllm" else []
        if problems:
            raise ModelError(f"vLLM and llama.cpp cannot serve this adapter: {problems[0]}.")
    return target


def _factors_of_ours(layer: AdaptedLinear, coefficients: dict[str, float]) -> Factors:
    """Return the factors of a Co-LoRA or LoRA layer, mixed by ``coefficients``."""
    weights = {name: factor * layer.colora_scaling[name] for name, factor in coefficients.items()}
    if isinstance(layer, CoLoraLinear):
        a, b = (layer.shared_colora[name].double() for name in ("frozen_A", "frozen_B"))
        p = sum(
            (weight * layer.colora_P[name].detach().double() for name, weight in weights.items()),
            torch.zeros((), dtype=b.dtype),
        )
        q = b.new_zeros(b.shape[1])
        for name in set(weights) & set(layer.colora_Q):
            q = q + weights[name] * layer.colora_Q[name].detach().double()
        return p @ a, b, b @ q
    assert isinstance(layer, LoraLinear)
    a = torch.cat([layer.colora_A[name].detach().double() for name in weights])
    b = torch.cat(
        [weight * layer.colora_B[name].detach().double() for name, weight in weights.items()], dim=1
    )
    return a, b, b.new_zeros(b.shape[0])


def _factors_of_peft(path: str, layer: LoraLayer, names: list[str]) -> Factors:
    """Return the factors of PEFT's own LoRA layer, each adapter with its present scale."""
    if isinstance(layer, ParamWrapper) or any(layer.use_dora.get(name) for name in names):
        raise ModelError(
            f"{path} has an adapter on whole experts or with DoRA, which is not one LoRA. Export a "
            "single adapter of PEFT's for PEFT, or leave the module out of adapter.target_modules."
        )
    if any(layer.lora_bias.get(name) for name in names):
        raise ModelError(f"{path} has a LoRA bias: train with lora_bias=False.")
    mixer = token_mixer(layer)
    if mixer is not None and mixer.mixes(names):
        raise ModelError(
            f"A mixer weighs {' and '.join(mixer.pair)} anew for every input, which no single LoRA "
            "does: export one of them, or take them from the adapters of the finished run, which "
            "hold each without the mixer."
        )
    for name in names:
        if isinstance(layer.scaling[name], Tensor):
            raise ModelError(
                f"Adapter {name!r} has another scale for each input, so it is not one LoRA and "
                "cannot be exported."
            )
    a = torch.cat([layer.lora_A[name].weight.detach().double() for name in names])
    b = torch.cat(
        [layer.scaling[name] * layer.lora_B[name].weight.detach().double() for name in names], dim=1
    )
    return a, b, b.new_zeros(b.shape[0])
