"""Know the model and the data of a client at its own site, as its file describes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from fedmosaic.config import ClientSpec, ShareSettings, SiteSettings
from fedmosaic.distributed.facts import site_facts, task_labels
from fedmosaic.distributed.noise_secret import noise_secret
from fedmosaic.distributed.preparing import prepare
from fedmosaic.distributed.shared import site_runtime
from fedmosaic.federation.pools import ModelPool
from fedmosaic.federation.runtime import Runtime


class OwnSite:
    """Implement what :class:`fedmosaic.distributed.site.ClientSite` needs from a client's file.

    Args:
        settings: the client's file; ``out`` is the folder of its secret.
        sign: signs with the client's key; None without keys.
    """

    def __init__(
        self, settings: SiteSettings, sign: Callable[[bytes], bytes] | None = None
    ) -> None:
        self.settings = settings
        self.sign = sign
        self.models = ModelPool(settings.models)

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def share(self) -> ShareSettings:
        return self.settings.share

    @property
    def labels(self) -> Mapping[str, str]:
        return task_labels(self.settings)

    def facts(self) -> Mapping[str, Any]:
        return self._facts

    @cached_property
    def _facts(self) -> Mapping[str, Any]:
        found: dict[str, Any] = site_facts(self.settings, self.models).model_dump(mode="json")
        return found

    def prove(self, challenge: bytes) -> bytes:
        return self.sign(challenge) if self.sign else b""

    def runtime(self, shared: Mapping[str, Any], pivot: bytes) -> tuple[Runtime, ClientSpec]:
        runtime, spec = site_runtime(shared, self.settings, self.models, pivot)
        if self.settings.out is not None:
            runtime.secret = noise_secret(self.settings.out)
        return runtime, spec

    def prepare(
        self, runtime: Runtime, spec: ClientSpec, shared: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        found: dict[str, Any] = prepare(runtime, spec, self.settings, shared).model_dump(
            mode="json"
        )
        return found
