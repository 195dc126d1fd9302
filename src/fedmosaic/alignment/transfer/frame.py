"""Say where a model carries Co-LoRA, and with which frozen A and B."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fedmosaic.adapters import CoLoraLinear, shared_state
from fedmosaic.adapters.placement import AdapterSite
from fedmosaic.errors import ModelError


@dataclass(frozen=True)
class CoLoraFrame:
    """Hold what gives P and Q their meaning in one model: y ← W x + s B (P A x + Q).

    Attributes:
        sites: the layers with Co-LoRA.
        subspaces: ``{key}.A`` [r, d_in] and ``{key}.B`` [d_out, r] of each site's key.
        scaling: s = α / r.
        has_q: whether there is a Q.
    """

    sites: Sequence[AdapterSite]
    subspaces: Mapping[str, Tensor]
    scaling: float = 1.0
    has_q: bool = True

    @classmethod
    def of(cls, model: Any, adapter: str = "local") -> CoLoraFrame:
        """Return the frame of a PEFT model with Co-LoRA layers.

        Args:
            model: the model; A and B are copied from it.
            adapter: name of the adapter whose s and Q count.

        Raises:
            ModelError: no layer carries Co-LoRA of that name.
        """
        layers = [
            layer
            for layer in model.modules()
            if isinstance(layer, CoLoraLinear) and adapter in layer.colora_P
        ]
        if not layers:
            raise ModelError(
                f"no layer of the model carries Co-LoRA called {adapter!r}, so no P and Q can move "
                "between models: set adapter.num_blocks to 1 or more"
            )
        return cls(
            sites=[layer.colora_site for layer in layers],
            subspaces=shared_state(model),
            scaling=layers[0].colora_scaling[adapter],
            has_q=adapter in layers[0].colora_Q,
        )

    def pair(self, site: AdapterSite) -> tuple[Tensor, Tensor]:
        """Return A and B of a site."""
        return self.subspaces[f"{site.key}.A"], self.subspaces[f"{site.key}.B"]

    def width(self, site: AdapterSite) -> int:
        """Return the number of values of P and Q of a site."""
        r = self.pair(site)[0].shape[0]
        return r * r + r * self.has_q

    def split(self, values: Tensor) -> dict[str, Tensor]:
        """Split one vector into P [r, r] and Q [r] of all sites.

        Args:
            values: P of the first site, its Q, P of the second site, and so on, flat.

        Returns:
            ``{key}.P`` and ``{key}.Q`` of each site's key, as adapters call them.
        """
        found: dict[str, Tensor] = {}
        rest = values
        for site in self.sites:
            r = self.pair(site)[0].shape[0]
            p, q, rest = torch.tensor_split(rest, (r * r, r * r + r * self.has_q))
            found[f"{site.key}.P"] = p.reshape(r, r).clone()
            if self.has_q:
                found[f"{site.key}.Q"] = q.clone()
        return found
