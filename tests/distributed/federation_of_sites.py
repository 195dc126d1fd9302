"""Make federations whose clients are sites of this process, with folders of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local_link import LocalLink

from fedmosaic.config import ClientSpec, DeploymentSettings, RunSettings
from fedmosaic.config.base import RECORDED
from fedmosaic.distributed.courier import Courier, Errand, gather
from fedmosaic.distributed.membership import Membership
from fedmosaic.distributed.messages import SiteRequest
from fedmosaic.distributed.outgoing import Outgoing
from fedmosaic.distributed.remote_clients import RemoteClients
from fedmosaic.distributed.site import ClientSite, SiteIdentity
from fedmosaic.distributed.site_folder import SiteFolder
from fedmosaic.distributed.status import FederationStatus, StatusBoard
from fedmosaic.federation.callbacks import Callback
from fedmosaic.federation.introduce import read_introductions
from fedmosaic.federation.round_loop import RoundLoop
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.runtime import Runtime

SESSION = "0123456789abcdef" * 2


def runtime_for(name: str) -> Any:
    """Return what makes a site's runtime from the whole settings of a run."""

    def make(shared: Mapping[str, Any], pivot: bytes) -> tuple[Runtime, ClientSpec]:
        settings = RunSettings.model_validate(shared, context=RECORDED)
        spec = next(one for one in settings.scenario.clients if one.name == name)
        return Runtime(settings), spec

    return make


def new_site(name: str, folder: Path, lines: list[str] | None = None) -> ClientSite:
    taken = [] if lines is None else lines
    place = SiteFolder(folder / name)
    return ClientSite(
        SiteIdentity(name, lambda: {"fingerprint": "f", "rank": 4}),
        place,
        runtime_for(name),
        Outgoing(place.audit),
        taken.append,
    )


class Server:
    """Run the server's half over a local link, from the start or from its folder."""

    def __init__(
        self, settings: RunSettings, folder: Path, link: LocalLink, quiet: float = 0.3
    ) -> None:
        self.settings, self.link = settings, link
        self.lines: list[str] = []
        self.names = [client.name for client in settings.scenario.clients]
        self.limits = settings.scenario.deployment
        self.board = StatusBoard(folder, FederationStatus(settings.name), self.lines.append)
        self.members = Membership(link, SESSION, self.names, self.board)
        self.courier = Courier(link, self.members, self.limits, self.board, quiet=quiet)
        self.folder, _ = (
            RunFolder.open(folder) if (folder / "config.yaml").exists() else (RunFolder(folder), 0)
        )
        if not (folder / "config.yaml").exists():
            self.folder.create(settings)

    def prepare(self, name: str) -> SiteRequest:
        return SiteRequest("prepare", SESSION, {"shared": self.settings.model_dump(mode="json")})

    def loop(self) -> RoundLoop:
        """Prepare the sites and return the round loop, restored where there is a checkpoint."""
        assert self.courier.wait(lambda: len(self.members.connected()) == len(self.names), 30)
        found, missing = gather(
            self.courier, [Errand(n, lambda n=n: self.prepare(n), 60.0) for n in self.names]
        )
        assert not missing, missing
        introductions: dict[str, Any] = {}
        for name in self.names:
            introductions |= read_introductions(found[name].header["introduction"])
        self.clients = RemoteClients(self.courier, SESSION, introductions, self.prepare)
        loop = RoundLoop(Runtime(self.settings), self.clients, self.folder, Callback())
        latest = self.folder.latest()
        if latest is not None:
            loop.restore(latest)
        else:
            self.folder.truncate(0)
        return loop


def settings_of(tiny: Mapping[str, Any], **changes: Any) -> RunSettings:
    content = {"name": "tiny", "scenario": {**tiny, **changes}, "trackers": ()}
    return RunSettings.model_validate(content)


def limits(**values: Any) -> dict[str, Any]:
    return DeploymentSettings(**values).model_dump()
