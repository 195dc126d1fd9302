"""Write in sentences what privacy a run gives, with what it covers and what it does not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def privacy_lines(statement: Mapping[str, Any] | None) -> list[str]:
    """Return a statement as sentences; none where nothing is stated.

    Args:
        statement: see :func:`fedmosaic.federation.privacy_statement.privacy_statement`.
    """
    if statement is None:
        return []
    if "none" in statement:
        return [f"no privacy is claimed: {statement['none']}"]
    epsilon, unclaimed = statement["epsilon"], statement.get("unclaimed", {})
    client = max(epsilon, key=lambda name: epsilon[name])
    kinds = [kind for kind in ("signatures", "prototypes") if kind in statement]
    bare = [what for what in statement["does_not_cover"] if what not in unclaimed]
    lines = [
        f"{' and '.join(kinds)}: differential privacy of a client's whole data, ε at most "
        f"{rounded_up(statement['worst'])} at δ = {statement['delta']:g} "
        f"(client {client!r}, which sent {_numbers(statement, kinds, client)})",
        *(f"{kind}: no privacy is claimed: {reason}" for kind, reason in unclaimed.items()),
        f"not covered by it: {_listed(bare)}, to which no noise is added",
    ]
    if "seed" in statement["noise_from"]:
        lines.append(
            "this noise came from the run's seed, as in every simulation, and who knows the seed "
            "can remove it; the ε is that of clients that draw the noise from secrets of their own"
        )
    return lines


def _numbers(statement: Mapping[str, Any], kinds: Sequence[str], client: str) -> str:
    """Return how much of each covered kind a client sent."""
    most = "at most " if statement.get("counted") == "at most" else ""
    numbers = [statement[kind].get(client, 0) for kind in kinds]
    if len(kinds) == 1:
        return f"{most}{numbers[0]}"
    return most + " and ".join(f"{n} {kind}" for n, kind in zip(numbers, kinds, strict=True))


def rounded_up(epsilon: float) -> str:
    """Return an ε with two decimals, never less than it is."""
    return f"{math.ceil(epsilon * 100) / 100:.2f}"


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + " and " + words[-1]
