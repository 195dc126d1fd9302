"""Vary FedMosaic: extensions, ablations and controls, each a subclass that changes one step.

Variants that are only other settings of the scenario are in ``presets.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from fedmosaic.adapters import read_state, write_state
from fedmosaic.adapters.keys import Scope, TensorKey, in_scope
from fedmosaic.algorithms.base import Client, LocalTraining, Member, Server
from fedmosaic.algorithms.fedmosaic import FedMosaic
from fedmosaic.algorithms.message import Message
from fedmosaic.alignment import Alignment
from fedmosaic.alignment.rotation import rotated
from fedmosaic.models.backbone import Backbone
from fedmosaic.relevance import overlap_weights
from fedmosaic.relevance.weights import restrict


# --- extensions -----------------------------------------------------------------------------------
class Interpolation(FedMosaic):
    """Move the local adapter towards the received one before each round.

        L_i ← (1 − p) L_i + p G_i

    p is ``interpolation``, and for P and Q ``interpolation_shared``. With 1 for P and Q, every
    client's P and Q start their round from what it received. Messages are those of FedMosaic.

    Source: an extension of FedMosaic, not in the paper.
    """

    name: ClassVar[str] = "fedmosaic-interpolation"
    summary: ClassVar[str] = (
        "extension: a fifth of the global adapter enters the local one each round"
    )
    options_of: ClassVar[str | None] = "fedmosaic"

    class Options(FedMosaic.Options):
        """Hold the settings of the interpolation."""

        interpolation: float = Field(default=0.2, ge=0, le=1)
        """p, the share of the global adapter that enters the local one; 0 is FedMosaic."""
        interpolation_shared: float | None = Field(default=None, ge=0, le=1)
        """p of P and Q; None: as ``interpolation``."""

    def receive(self, client: Client, download: Message) -> None:
        super().receive(client, download)
        if not download.tensors:
            return
        local = read_state(client.model, "local")
        received = {**local, **download.tensors}
        shared = self.options.interpolation_shared
        p = {
            "layer": self.options.interpolation,
            "block": self.options.interpolation if shared is None else shared,
        }
        moved = {
            key: torch.lerp(value, received[key].to(value), p[TensorKey.parse(key).scope])
            for key, value in local.items()
        }
        write_state(client.model, "local", moved)


class Additive(FedMosaic):
    """Mix P and Q of a client's own architecture and of the others apart, and add them up.

        P_i ← Σ_{j like i} w'_ij P_j + c Σ_{j unlike i} w″_ij P_j        (Q likewise)

    over a client's peers j, with weights that sum to 1 in either part and c the
    ``cross_architecture_weight``. Other architectures then take no weight from the client's own.
    Messages are those of FedMosaic.

    Source: an extension of FedMosaic, not in the paper.
    """

    name: ClassVar[str] = "fedmosaic-additive"
    summary: ClassVar[str] = (
        "extension: other architectures' P, Q, at double strength, added to the mix of its own"
    )
    options_of: ClassVar[str | None] = "fedmosaic"

    class Options(FedMosaic.Options):
        """Hold the settings of the sum."""

        cross_architecture_weight: float | None = Field(default=2.0, ge=0)
        """c, the weight of the other architectures' P and Q; 0 is fedmosaic-same-architecture.

        None: 2 where alignment is refined (``alignment.refine``), else 0, because P and Q then mean
        little in other models.
        """

    @property
    def cross_architecture_weight(self) -> float:
        """Return c."""
        c: float | None = self.options.cross_architecture_weight
        return c if c is not None else 0.0 if self.scenario.alignment.refine is None else 2.0

    def notes(self) -> list[str]:
        if self.scenario.alignment.refine is not None or not self.several_architectures:
            return []
        c = self.options.cross_architecture_weight
        if c == 0:
            return []
        what = "clients get no P and Q of other architectures"
        if c is not None:
            what = (
                f"P and Q of other architectures count {c:g} times and mean little in other models"
            )
        return [self.without_refinement(what, "cross_architecture_weight=0")]

    def without_refinement(self, what: str, option: str) -> str:
        """Return a note on what follows from an alignment that is not refined.

        Args:
            what: what follows.
            option: the option of the algorithm that asks for it by name.
        """
        return (
            f"{self.name}: {what}, since only refined alignment gives P and Q one meaning: set "
            f"alignment.refine={{}}, or algorithms.{self.name}.{option}"
        )

    @property
    def several_architectures(self) -> bool:
        """Return whether there may be several architectures that share P and Q."""
        models = {client.model for client in self.scenario.clients}
        several = len(models) > 1 or "" in models  # a site names its model itself
        return several and self.scenario.adapter.num_blocks > 0

    def block_weights(
        self, weights: Tensor, same_model: Tensor, own: Tensor | None = None
    ) -> Tensor:
        c = self.cross_architecture_weight
        like = restrict(weights, same_model, own)
        unlike = restrict(weights, ~same_model, own)
        return like + c * unlike * ~same_model


# --- ablations ------------------------------------------------------------------------------------
class SameArchitecture(FedMosaic):
    """Mix P and Q over the clients of the same architecture only, as ordinary LoRA is.

    Source: an ablation of FedMosaic, not in the paper.
    """

    name: ClassVar[str] = "fedmosaic-same-architecture"
    summary: ClassVar[str] = "ablation: P, Q shared within an architecture only"
    options_of: ClassVar[str | None] = "fedmosaic"

    def block_weights(
        self, weights: Tensor, same_model: Tensor, own: Tensor | None = None
    ) -> Tensor:
        return restrict(weights, same_model, own)


class _PartlyShared(FedMosaic):
    """Keep a part of the local adapter at its client; its global branch has the client's own."""

    options_of: ClassVar[str | None] = "fedmosaic"
    private: ClassVar[Scope]

    def receive(self, client: Client, download: Message) -> None:
        if download.tensors:
            private = in_scope(read_state(client.model, "local"), self.private)
            super().receive(client, Message({**private, **download.tensors}))

    def upload(self, client: Client) -> Message:
        sent = super().upload(client).tensors
        private = in_scope(sent, self.private)
        return Message({key: value for key, value in sent.items() if key not in private})


class Private(_PartlyShared):
    """Share ordinary LoRA within an architecture, and neither P nor Q.

    P and Q never leave the client; its global branch has the client's own.

    Source: an ablation of FedMosaic, not in the paper.
    """

    name: ClassVar[str] = "fedmosaic-private"
    summary: ClassVar[str] = "ablation: P, Q not shared, only ordinary LoRA within an architecture"
    private: ClassVar[Scope] = "block"


class Partial(_PartlyShared):
    """Share P and Q, and no ordinary LoRA.

    A and B never leave the client; its global branch has the client's own.

    Source: an ablation of FedMosaic, not in the paper.
    """

    name: ClassVar[str] = "fedmosaic-partial"
    summary: ClassVar[str] = "partial averaging: only P, Q shared, ordinary LoRA private"
    private: ClassVar[Scope] = "layer"


# --- controls -------------------------------------------------------------------------------------
class NoCommunication(FedMosaic):
    """Train FedMosaic's two branches and gate without communication.

    Nothing is sent or received and no signature is computed. The global branch is the client's own
    local one as it was at the end of its round before:

        G_i ← L_i

    A client that is alone in a federation of FedMosaic does the same. The number of steps under
    ``algorithms.fedmosaic`` does not count here, because it allows for the cost of signatures.

    Source: a control, not in the paper.
    """

    name: ClassVar[str] = "fedmosaic-no-communication"
    summary: ClassVar[str] = "control: FedMosaic's two branches and gate without communication"
    computes_signatures: ClassVar[bool] = False

    def receive(self, client: Client, download: Message) -> None:
        write_state(client.model, "global", read_state(client.model, "local"))

    def local_training(self, client: Client) -> LocalTraining:
        return LocalTraining(self.steps)

    def upload(self, client: Client) -> Message:
        return Message()

    def aggregate(self, server: Server, updates: Mapping[str, Message]) -> None:
        pass

    def download(self, server: Server, member: Member) -> Message:
        return Message()


class Rotated(FedMosaic):
    """Rotate every architecture's aligned A and B randomly, each architecture by its own rotation.

    What one model can learn stays as it is, but P and Q of other architectures mean nothing
    (:func:`fedmosaic.alignment.rotation.rotated`). Without an alignment A and B are unrelated
    anyway.

    Source: a control, not in the paper.
    """

    name: ClassVar[str] = "fedmosaic-rotated"
    summary: ClassVar[str] = (
        "control: aligned A, B rotated apart, so that other architectures' P, Q mean nothing"
    )
    options_of: ClassVar[str | None] = "fedmosaic"

    def subspaces(self, backbone: Backbone, alignment: Alignment | None) -> Mapping[str, Tensor]:
        aligned = super().subspaces(backbone, alignment)
        return rotated(aligned, self.seed, backbone.identity)


class AdditiveRotated(Additive, Rotated):
    """Add up the mixtures as :class:`Additive` with A and B rotated apart as :class:`Rotated`.

    Source: a control, not in the paper.
    """

    name: ClassVar[str] = "fedmosaic-additive-rotated"
    summary: ClassVar[str] = "control: fedmosaic-additive with aligned A, B rotated apart"


class Oracle(FedMosaic):
    """Weigh the peers by the true overlap of the clients' task families.

        o_ij = Σ_f min(n_i(f), n_j(f)),   w_ij = o_ij / Σ_{k≠i} o_ik

    with n_i(f) the number of client i's tasks of family f. **No server may know them**: it is an
    oracle for simulations.

    Source: a control, not in the paper.
    """

    name: ClassVar[str] = "fedmosaic-oracle"
    summary: ClassVar[str] = "ORACLE: weights by the true overlap of the clients' task families"
    oracle: ClassVar[bool] = True
    settings: ClassVar[Mapping[str, Any]] = {"relevance": {"kind": "oracle"}}
    options_of: ClassVar[str | None] = "fedmosaic"

    def peer_weights(self, server: Server, names: Sequence[str], similarities: Tensor) -> Tensor:
        families = {member.name: member.families for member in server.members}
        groups = {client.name: client.group for client in self.scenario.clients}
        return overlap_weights([families[name] for name in names], [groups[name] for name in names])
