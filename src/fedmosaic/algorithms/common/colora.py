"""Build FedMosaic's pair of Co-LoRA adapters on a backbone from the scenario's settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from fedmosaic.adapters import (
    CoLoraConfig,
    build_pair,
    calibrate,
    load_shared,
    read_state,
    write_state,
)
from fedmosaic.adapters.placement import Placement
from fedmosaic.algorithms.common.lora import model_inputs, quiet_peft, target_pattern
from fedmosaic.alignment import Alignment
from fedmosaic.config import AdapterSettings
from fedmosaic.data.example import Example
from fedmosaic.models.backbone import Backbone
from fedmosaic.seeding import seed_for


def build_colora(
    backbone: Backbone,
    public: Sequence[Example],
    alignment: Alignment | None,
    subspaces: Mapping[str, Tensor],
    settings: AdapterSettings,
    seed: int,
) -> Any:
    """Put the adapters ``local`` and ``global`` on a fork of the backbone.

    Args:
        backbone: the bare base model.
        public: the public examples that ``adapter.shared_scale: unit`` is measured on.
        alignment: says which layers end blocks and how A and B were made; None: not aligned.
        subspaces: A and B in place of the ones drawn from the seed; empty: those.
        settings: the scenario's ``adapter`` section.
        seed: of the run; draws A and B.

    Returns:
        the PEFT model in evaluation mode, in which both adapters are equal.
    """
    with quiet_peft():
        config = colora_config(backbone, public, alignment, settings, seed)
        model = build_pair(backbone.fork(), config)
    if subspaces:
        load_shared(model, subspaces)
    if config.shared_scale == "unit":
        calibrate(model, model_inputs(backbone, public))
    # The first global adapter is the client's own initial one.
    write_state(model, "global", read_state(model, "local"))
    return model.eval()


def colora_config(
    backbone: Backbone,
    public: Sequence[Example],
    alignment: Alignment | None,
    settings: AdapterSettings,
    seed: int,
) -> CoLoraConfig:
    """Return the configuration of both adapters; arguments as of :func:`build_colora`."""
    scaled = alignment is not None and alignment.scaled
    measurable = bool(public) and settings.num_blocks > 0 and not scaled
    return CoLoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        shared_r=settings.shared_r,
        shared_modules=_shared_modules(settings),
        num_blocks=max(settings.num_blocks, 1),
        block_layers=_block_layers(backbone, alignment, settings),
        target_modules=target_pattern(backbone, settings),
        gate=settings.gate,
        gate_init=settings.gate_init,
        q=settings.q,
        shared_init=settings.shared_init,
        shared_scale=settings.shared_scale if measurable else "raw",
        b_scale=settings.b_scale,
        seed=seed_for(seed, "colora") % 2**31,
    )


def _shared_modules(settings: AdapterSettings) -> list[str] | list[list[str]] | None:
    """Return the modules with Co-LoRA, as the adapter's configuration has them."""
    if settings.shared_modules is None:
        return None
    flat, by_block = settings.shared_roles
    return [list(roles) for roles in by_block] if by_block else list(flat or ())


def _block_layers(
    backbone: Backbone, alignment: Alignment | None, settings: AdapterSettings
) -> list[int]:
    """Return the layers that end blocks."""
    if alignment is not None:
        return list(alignment.layers)
    placement = Placement.of(settings)
    return list(placement.block_ends(backbone.num_layers)) if placement.num_blocks else []
