"""Read how items are divided among clients: ``iid``, ``dirichlet:0.3``, ``by:site``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from fedmosaic.errors import ConfigError, nearest

KINDS = ("iid", "dirichlet", "by")


@dataclass(frozen=True)
class SplitRule:
    """Hold how items are divided.

    Attributes:
        kind: ``iid``, ``dirichlet`` or ``by``.
        alpha: α of ``dirichlet``.
        column: field whose values are the labels of ``dirichlet``, or the values of ``by``. Empty
            with ``dirichlet``: the labels are the right options.
    """

    kind: Literal["iid", "dirichlet", "by"]
    alpha: float = 0.0
    column: str = ""

    @classmethod
    def parse(cls, text: str) -> SplitRule:
        """Read ``iid``, ``dirichlet:ALPHA``, ``dirichlet:ALPHA:COLUMN`` or ``by:COLUMN``.

        Raises:
            ConfigError: it is none of them, or α is no number above 0.
        """
        kind, _, rest = text.partition(":")
        forms = "write iid, dirichlet:ALPHA, dirichlet:ALPHA:COLUMN or by:COLUMN"
        if kind == "iid" and not rest:
            return cls("iid")
        if kind == "by" and rest:
            return cls("by", column=rest)
        if kind != "dirichlet" or not rest:
            hint = nearest(kind, KINDS) if kind not in KINDS else ""
            raise ConfigError(f"--split {text}: {forms}.{hint}")
        number, _, column = rest.partition(":")
        try:
            alpha = float(number)
        except ValueError:
            alpha = 0.0
        if not (math.isfinite(alpha) and alpha >= 1e-6):
            raise ConfigError(
                f"--split {text}: ALPHA is {number!r}; it must be a number of 1e-6 or more, small"
                " for clients with few labels each, large for clients that are alike"
            )
        return cls("dirichlet", alpha, column)
