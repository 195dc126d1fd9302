"""Define the types that all steps of an alignment share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

Progress = Callable[[str, int, int], None]
"""Called with the name of a stage, the number of finished items and the number of all items."""

Subspaces = Mapping[str, Tensor]
"""``{site}.A`` [r, d_in] and ``{site}.B`` [d_out, r] of every adapter site of a model."""

Result = tuple[dict[str, Tensor], dict[str, Any]]
"""A and B of one model in float32, and the report about them."""
