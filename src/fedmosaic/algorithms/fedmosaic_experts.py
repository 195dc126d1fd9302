"""Run FedMosaic with experts: each input goes to the client whose prompts it resembles."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from fedmosaic.algorithms.base import Server
from fedmosaic.algorithms.common.experts import OWN, WithExperts
from fedmosaic.algorithms.fedmosaic import BLOCKS, PAIR
from fedmosaic.algorithms.fedmosaic_variants import Additive
from fedmosaic.algorithms.state import StateKey


class FedMosaicExperts(WithExperts, Additive):
    """Add to :class:`Additive` that each input can go to a peer's adapter.

    Training is that of :class:`Additive`, and so are P, Q, A, B and signatures that travel. What is
    added is described in :class:`~fedmosaic.algorithms.common.experts.WithExperts`. A peer's
    adapter takes the place of the client's local one, with the client's gate and what it received
    in the global branch. Where no prompt is near, the global branch answers.

    - Up: as FedMosaic, and prototypes of the training prompts.
    - Down: as FedMosaic; before an evaluation also adapters of peers, and their prototypes. With
      ``across`` peers of other architectures give P and Q.

    Source: an extension, not in FedMosaic's paper.
    """

    name: ClassVar[str] = "fedmosaic-experts"
    summary: ClassVar[str] = (
        "extension: fedmosaic-additive; each input goes to the peer whose prompts it resembles"
    )
    views: ClassVar[tuple[str, ...]] = (OWN, *PAIR)
    options_of: ClassVar[str | None] = "fedmosaic"

    class Options(WithExperts.Options, Additive.Options):
        """Hold the settings of the experts and of the sum."""

    def expert(
        self, server: Server, name: str, architecture: str, same_model: bool
    ) -> dict[str, Tensor]:
        blocks = server.state.get(BLOCKS, name)
        layers = server.state.get(StateKey("layer", architecture), name) if same_model else {}
        return {**blocks, **layers}
