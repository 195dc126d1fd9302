"""Carry what a server has added to W as a frozen adapter of scale 1 beside the trained one.

Clients share W in memory, so it stays as it is. W + B A is the same function.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fedmosaic.adapters import activate, adapter_parameters, read_state, write_state
from fedmosaic.adapters.keys import TensorKey
from fedmosaic.algorithms.common.lora import quiet_peft, target_pattern, transposed
from fedmosaic.algorithms.common.ranks import Adapter, factors, is_a, resize, squared_norm
from fedmosaic.config import AdapterSettings
from fedmosaic.errors import UpdateError
from fedmosaic.models.backbone import Backbone


class Appended(NamedTuple):
    """Hold a sum of products as one pair of factors, float64.

    Attributes:
        a: A, [rank, d_in].
        b: B, [d_out, rank].
        whole: ‖B A‖² (Frobenius) before anything was cut.
        lost: by how much cutting lowered it.
    """

    a: Tensor
    b: Tensor
    whole: float
    lost: float


def append(parts: Sequence[tuple[Tensor, Tensor]], limit: int) -> Appended:
    """Add up products B_k A_k by stacking their factors.

    A sum of a higher rank than ``limit`` or a width of the weight is cut to the best approximation
    of that rank (:func:`~fedmosaic.algorithms.common.ranks.factors`).

    Args:
        parts: A_k [r_k, d_in] and B_k [d_out, r_k], float64.
        limit: the highest rank of the result.
    """
    a = torch.cat([a for a, _ in parts])
    b = torch.cat([b for _, b in parts], dim=1)
    rank = min(limit, a.shape[1], b.shape[0])
    whole = squared_norm(a, b)
    if a.shape[0] > rank:
        a, b = factors(a, b, rank)
    return Appended(a, b, whole, whole - squared_norm(a, b))


def used(adapter: Adapter) -> dict[str, Tensor]:
    """Return the adapter without the last columns of B that are zero, and their rows of A."""
    result: dict[str, Tensor] = {}
    for site in [TensorKey.parse(key).site for key in adapter if not is_a(key)]:
        a, b = adapter[f"{site}.A"], adapter[f"{site}.B"]
        filled = b.any(dim=0).nonzero()
        rank = int(filled[-1]) + 1 if len(filled) else 0
        result |= {f"{site}.A": a[:rank], f"{site}.B": b[:, :rank]}
    return result


def add_frozen(
    model: Any, backbone: Backbone, settings: AdapterSettings, name: str, limit: int
) -> None:
    """Add a frozen adapter of scale 1 that is zero, and make it active beside ``local``.

    Args:
        model: the PEFT model with the adapter ``local``.
        backbone: its base model.
        settings: the scenario's ``adapter`` section.
        name: of the new adapter.
        limit: its highest rank; no projection of a decoder layer has one above the model's width.
    """
    from peft import LoraConfig

    rank = min(limit, backbone.hidden_size)
    config = LoraConfig(
        r=rank,
        lora_alpha=rank,
        target_modules=target_pattern(backbone, settings),
        bias="none",
        fan_in_fan_out=transposed(backbone, settings),
    )
    with quiet_peft():
        model.add_adapter(name, config)
    zeros = {key: torch.zeros_like(v) for key, v in read_state(model, name).items()}
    write_state(model, name, zeros)
    activate_frozen(model, name, "local", name)


def activate_frozen(model: Any, frozen: str, *names: str) -> None:
    """Make adapters active, of which ``frozen`` does not train.

    PEFT lets active adapters train; what has been added to W must not.
    """
    activate(model, *names)
    for parameter in adapter_parameters(model, frozen).values():
        parameter.requires_grad_(False)


def write_frozen(model: Any, name: str, adapter: Adapter) -> None:
    """Copy a pair of factors of any lower rank into the frozen adapter.

    Raises:
        UpdateError: their rank is higher than that of the adapter.
    """
    held = next(v.shape[0] for key, v in read_state(model, name).items() if is_a(key))
    rank = max(value.shape[0] for key, value in adapter.items() if is_a(key))
    if rank > held:
        raise UpdateError(
            f"the server's sum has rank {rank} and the adapter {name!r} {held}: the federation has "
            "more clients or rounds than this client was built for; start a new run"
        )
    write_state(model, name, resize(adapter, held))
