"""Define what the server may use."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from fedmosaic.config.base import Settings

UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
SIZE = re.compile(rf"(\d+(?:\.\d+)?) ?({'|'.join(UNITS)})")


class ServerSettings(Settings):
    """Set the memory of the server and how it computes with many clients."""

    memory: str = "8GB"
    """Main memory for what clients sent and what they receive next, such as ``4GB`` or ``512MiB``.

    Matrices that do not fit any more are kept in files in the run folder, and are read and written
    in blocks. Numbers may then differ from those computed in memory in the last digits.
    """

    dense_clients: int = Field(default=1000, ge=1)
    """Most clients whose similarities and relevance weights are whole matrices [clients, clients].

    With more, they are computed in blocks. Of more than 200 clients, ``metrics.jsonl`` has the
    largest weights only.
    """

    background_checkpoints: bool = True
    """Write the checkpoint of a round while the next round computes. It changes no number.

    Until it is written, memory has the state of two rounds. False: the next round waits.
    """

    @field_validator("memory")
    @classmethod
    def _is_size(cls, value: str) -> str:
        found = SIZE.fullmatch(value)
        if found is None or not float(found[1]):
            raise ValueError(
                f"{value!r} is no size; write a number above 0 and a unit ({', '.join(UNITS)}), "
                "e.g. 4GB"
            )
        return value

    @property
    def memory_bytes(self) -> int:
        """Return ``memory`` in bytes."""
        found = SIZE.fullmatch(self.memory)
        assert found is not None
        return int(float(found[1]) * UNITS[found[2]])
