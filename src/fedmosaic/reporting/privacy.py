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
    epsilon, numbers = statement["epsilon"], statement["signatures"]
    client = max(epsilon, key=lambda name: epsilon[name])
    lines = [
        f"signatures: differential privacy of a client's whole data, ε at most "
        f"{rounded_up(statement['worst'])} at δ = {statement['delta']:g} "
        f"(client {client!r}, which sent {numbers[client]})",
        f"not covered by it: {_listed(statement['does_not_cover'])}, to which no noise is added",
    ]
    if "seed" in statement["noise_from"]:
        lines.append(
            "this noise came from the run's seed, as in every simulation, and who knows the seed "
            "can remove it; the ε is that of clients that draw the noise from secrets of their own"
        )
    return lines


def rounded_up(epsilon: float) -> str:
    """Return an ε with two decimals, never less than it is."""
    return f"{math.ceil(epsilon * 100) / 100:.2f}"


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + " and " + words[-1]
