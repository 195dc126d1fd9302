"""Describe coloured tables of a page whose numbers change with the reader's choices.

The rows and columns of a matrix are fixed. Its numbers come in frames of integers (thousandths):
one sequence of frames over rounds for every combination of choices, such as algorithm and seed.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedmosaic.config import ClientSpec


@dataclass(frozen=True)
class Heading:
    """Describe a row or a column of a matrix.

    Attributes:
        name: a short name.
        title: the full name.
        group: the group it belongs to; empty without groups.
        starts_group: a new group begins here.
    """

    name: str
    title: str
    group: str = ""
    starts_group: bool = False


@dataclass(frozen=True)
class Matrix:
    """Hold a coloured table and its frames.

    Attributes:
        name: identifies the matrix on the page.
        caption: what it shows and how to read it.
        rows: one heading a row.
        columns: one heading a column.
        outlined: (row, column) of the cells with an outline.
        choices: options by what can be chosen. Every combination has frames.
        rounds: names of the frames of each combination. A single one needs no slider.
        frames: by the positions of the chosen options, as ``"0.1"``: ``{"scale": the value with
            the strongest colour, "cells": one row-major list a round, "info": one text a round}``.
    """

    name: str
    caption: str
    rows: Sequence[Heading]
    columns: Sequence[Heading]
    outlined: frozenset[tuple[int, int]]
    choices: Mapping[str, Sequence[str]]
    rounds: Sequence[str]
    frames: Mapping[str, Mapping[str, Any]] = field(repr=False)

    @property
    def first(self) -> list[list[int | None]]:
        """The rows shown first: the last round of the first combination."""
        cells = next(iter(self.frames.values()))["cells"][-1]
        width = len(self.columns)
        return [cells[start : start + width] for start in range(0, len(cells), width)]

    @property
    def first_scale(self) -> int:
        """The scale of the rows shown first."""
        return int(next(iter(self.frames.values()))["scale"])

    @property
    def first_info(self) -> str:
        """The text shown first."""
        info = next(iter(self.frames.values()))["info"]
        return str(info[-1]) if info else ""


def by_group(clients: Sequence[ClientSpec]) -> list[ClientSpec]:
    """Sort clients by group, groups in the order of their first client."""
    groups = list(dict.fromkeys(client.group for client in clients))
    return sorted(clients, key=lambda client: groups.index(client.group))


def client_headings(clients: Sequence[ClientSpec], short: bool = False) -> list[Heading]:
    """Return a heading for each client: its number, and its name unless ``short``."""
    headings = []
    for index, client in enumerate(clients):
        number = str(index + 1)
        group = f", group {client.group}" if client.group else ""
        headings.append(
            Heading(
                number if short else f"{number} {client.name}",
                f"{client.name}, {client.model}{group}",
                client.group,
                index > 0 and client.group != clients[index - 1].group,
            )
        )
    return headings


def known_mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are not None; None without any."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def thousandths(value: float | None) -> int | None:
    """Round a value from 0 to 1 to thousandths, as pages store it."""
    return None if value is None else round(1000 * value)
