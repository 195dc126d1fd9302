"""Define what the server does about updates that stand out from the others."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fedmosaic.config.base import Settings


class DefenceSettings(Settings):
    """Set the server's defences against harmful updates. By default all are off.

    Names, kinds, shapes and finiteness of every update are checked in any case. With
    ``max_update_norm`` or ``min_cosine`` the server holds all updates of a round until the last
    has come, since each is compared with the others of its round. P, Q, A and B are compared apart,
    each with those of at least two other clients whose tensors have the same shapes. Signatures are
    not: their length does not count, and different tasks may point anywhere.
    """

    max_update_norm: float | None = Field(default=None, gt=1)
    """Largest norm of a client's P, Q, A or B, in multiples of the round's median. None: any.

    In the miniatures, honest clients had 0.7 to 1.4 times the median; 3 leaves them alone.
    """

    large_norm: Literal["clip", "refuse"] = "clip"
    """What follows a larger norm.

    ``clip``: the tensors are scaled down to the limit. ``refuse``: the whole update is refused.
    """

    min_cosine: float | None = Field(default=None, ge=-1, lt=1)
    """Smallest cosine of a client's P, Q, A or B with the mean direction of the others'. None: any.

    The update furthest below it is refused, the others are compared anew, and so on. Honest clients
    of different tasks may be at right angles: in the miniatures, cosines of P were between -0.02
    and 0.04, of Q between -0.12 and 0.10. So only a clearly negative limit such as -0.3 is of use.
    It catches updates that undo the others', but none that hides among unrelated tasks.
    """

    trim: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of the clients of an architecture that a mean leaves out at each end of every number.

    It is rounded down to whole clients. Clients then count alike, without regard to their number
    of examples, which a client could invent. It concerns FedAvg, FedProx, FedPer, SCAFFOLD, Ditto,
    FedSim, FedDAT and FedDPA. The other algorithms form no such mean, and the run says so.
    """

    @property
    def compares(self) -> bool:
        """Return whether updates are compared with one another before the algorithm takes them."""
        return self.max_update_norm is not None or self.min_cosine is not None
