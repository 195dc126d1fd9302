"""Define the base class of every settings section."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Reject unknown keys and stay unchanged after loading.

    The docstring under a field is its description, which the settings reference shows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
