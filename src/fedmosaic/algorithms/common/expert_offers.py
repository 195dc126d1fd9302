"""List the experts that a server can send: clients' adapters with prototypes of their prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from fedmosaic.algorithms.common.expert_bank import packed
from fedmosaic.algorithms.state import ServerState, StateKey

PUBLISHED, PARTS = "prototypes", "parts of prototypes"
"""Names in an update: prototypes [k, f], and the part of each [k], where a client has parts."""
OFFERED = StateKey("prototypes")
FOR_OTHERS = StateKey("expert for others")


@dataclass(frozen=True)
class ExpertOffer:
    """Describe an expert.

    Attributes:
        owner: the client whose adapter it is.
        key: where the adapter stands in the server's state.
        part: which of its parts, for other architectures.
        prototypes: [k, f].
        size: bytes of adapter and prototypes.
    """

    owner: str
    key: StateKey
    part: int
    prototypes: Tensor
    size: int

    def packed(self, state: ServerState, name: str) -> dict[str, Tensor]:
        """Return the expert as tensors of a message, under a name."""
        same = self.key != FOR_OTHERS
        start = "" if same else f"{self.part}/"
        tensors = state.get(self.key, self.owner)
        own = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
        return packed(name, own, self.prototypes, same)


def offers_of(
    state: ServerState, sources: Mapping[str, StateKey], parts_for_others: int
) -> dict[str, ExpertOffer]:
    """Return the experts that clients are, by name.

    Args:
        state: has adapters and prototypes.
        sources: where the adapter of each client stands.
        parts_for_others: parts of an adapter under ``FOR_OTHERS``.
    """
    found = {}
    for owner, key in sources.items():
        sent, values, parts = state.get(OFFERED, owner), state.values(key), None
        if key == FOR_OTHERS:
            values, parts = values // parts_for_others, sent.get(PARTS)
        for name, (part, rows) in experts_of_owner(owner, sent[PUBLISHED], parts).items():
            found[name] = ExpertOffer(owner, key, part, rows, 4 * (values + rows.numel()))
    return found


def experts_of_owner(
    owner: str, prototypes: Tensor, parts: Tensor | None
) -> dict[str, tuple[int, Tensor]]:
    """Return the part and the prototypes of each expert that a client is, by name.

    Args:
        owner: name of the client.
        prototypes: of its prompts, [k, f].
        parts: the part of each prototype, [k]; None: the client is one expert.
    """
    if parts is None:
        return {owner: (0, prototypes)}
    numbers = [int(number) for number in parts.unique()]
    return {
        f"{owner}/{number + 1}" if len(numbers) > 1 else owner: (
            number,
            prototypes[parts == number],
        )
        for number in numbers
    }
