"""Define the base class of every settings section."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationInfo

RECORDED = {"recorded": True}
"""Validation context of settings that a run folder records: names that it has stay valid."""


class Settings(BaseModel):
    """Reject unknown keys and stay unchanged after loading.

    The docstring under a field is its description, which the settings reference shows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def is_recorded(info: ValidationInfo) -> bool:
    """Return whether settings are read from a run folder, see :data:`RECORDED`."""
    return bool((info.context or {}).get("recorded"))
