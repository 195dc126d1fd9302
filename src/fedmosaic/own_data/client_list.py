"""Name the clients: as given, by number, or after the values that divide the items."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from fedmosaic.config import client_names
from fedmosaic.errors import ConfigError


def names_of(clients: int | Sequence[str] | None) -> list[str]:
    """Return the names of the clients; a number n stands for client-0 to client-(n-1).

    Raises:
        ConfigError: there are none, or names that a client cannot have.
    """
    if clients is None:
        raise ConfigError("--clients N: how many clients? Give their number, or their names")
    if isinstance(clients, int):
        if clients < 1:
            raise ConfigError(f"--clients {clients}: it must be 1 or more")
        return [f"client-{index}" for index in range(clients)]
    names = list(clients)
    fault = next(((name, why) for name in names if (why := client_names.fault(name))), None)
    if fault or not names:
        name, why = fault or ("", "there are no names")
        raise ConfigError(f"--clients: {name!r}: {why}")
    if alike := client_names.same_file(names):
        raise ConfigError(f"--clients: {alike[0]!r} and {alike[1]!r} would name one folder")
    return names


def names_of_values(values: Sequence[str], column: str, notes: list[str]) -> list[str]:
    """Return a client's name for each value; what cannot stand in a name becomes a hyphen."""
    names = []
    for value in values:
        letters = [c if unicodedata.category(c)[0] in "LMN" or c in "._- " else "-" for c in value]
        names.append("".join(letters).strip("-. _"))
    if any(client_names.fault(name) for name in names) or client_names.same_file(names):
        names = [f"client-{index}" for index in range(len(values))]
    for name, value in zip(names, values, strict=True):
        if name != value:
            notes.append(f"client {name!r} has the items with {column} {value!r}")
    return names
