"""Provide a server for tests that call ``aggregate`` and ``download`` directly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from fedmosaic.algorithms.base import Member
from fedmosaic.algorithms.state import ServerState


class StubServer:
    """Implement :class:`fedmosaic.algorithms.base.Server` without a federation.

    Args:
        members: the clients.
        generator: returns random numbers for a purpose; default: always the same ones.
        backbones: base models by name.
        public: the public examples.

    Attributes:
        report: what was recorded, by name.
    """

    def __init__(
        self,
        members: Sequence[Member],
        *,
        generator: Callable[[str], torch.Generator] = lambda _: torch.Generator().manual_seed(3),
        backbones: Mapping[str, Any] | None = None,
        public: Sequence[Any] = (),
    ) -> None:
        self.members = members
        self.state = ServerState([member.name for member in members])
        self.round = 0
        self.receivers: Sequence[str] | None = None
        self.report: dict[str, Any] = {}
        self.generator = generator
        self._backbones = backbones or {}
        self._public = public

    def record(self, name: str, value: Any) -> None:
        self.report[name] = value

    def backbone(self, name: str) -> Any:
        return self._backbones[name]

    def public(self) -> Sequence[Any]:
        return self._public
