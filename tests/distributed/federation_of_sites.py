"""Make federations whose clients are sites of this process, with folders of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from local_link import LocalLink
from sites import site_of

from fedmosaic.config import DeploymentSettings, RunSettings
from fedmosaic.distributed.own_site import OwnSite
from fedmosaic.distributed.refusals import served
from fedmosaic.distributed.server import FederationServer
from fedmosaic.distributed.site import ClientSite
from fedmosaic.distributed.site_folder import SiteFolder
from fedmosaic.federation.round_loop import RoundLoop
from fedmosaic.federation.run_folder import RunFolder

NAMES = ("a", "b", "d")  # two of one architecture, one of another


def new_site(
    settings: RunSettings, name: str, folder: Path, lines: list[str] | None = None, **own: Any
) -> ClientSite:
    """Return a client's site, new or from its folder ``folder/<name>``."""
    out = folder / name
    site = site_of(settings, name, **{"out": out, **own})
    taken = [] if lines is None else lines
    return ClientSite(OwnSite(site), SiteFolder(out), taken.append)


def new_sites(
    settings: RunSettings, folder: Path, names: Sequence[str] = NAMES
) -> dict[str, ClientSite]:
    return {f"node-{name}": new_site(settings, name, folder) for name in names}


class Server(FederationServer):
    """Run the server's half over a local link, from the start or from its folder."""

    def __init__(
        self, settings: RunSettings, folder: Path, link: LocalLink, quiet: float = 0.3
    ) -> None:
        self.lines: list[str] = []
        if (folder / "config.yaml").exists():
            place, recorded = RunFolder.open(folder)
            limits = settings.scenario.deployment
            scenario = recorded.scenario.model_copy(update={"deployment": limits})
            recorded = recorded.model_copy(update={"scenario": scenario})
        else:
            place = RunFolder(folder)
            recorded = served(settings).model_copy(update={"settled": False})
            place.create(recorded)
        super().__init__(place, recorded, link, notice=self.lines.append, quiet=quiet)

    def loop(self) -> RoundLoop:
        """Return a loop of a server that is ready to begin a round."""
        self.record.write()
        if not self.settings.settled:
            self._wait_for_sites()
            self._settle(list(self.members.facts))
        self._prepare([n for n in self.members.facts if n not in self.record.prepared])
        return self._loop()


def with_limits(settings: RunSettings, **values: Any) -> RunSettings:
    chosen = {"round_seconds": 60, "join_seconds": 60, "prepare_seconds": 120, **values}
    limits = DeploymentSettings.model_validate(chosen)
    scenario = settings.scenario.model_copy(update={"deployment": limits})
    return settings.model_copy(update={"scenario": scenario})


def settings_of(tiny: Mapping[str, Any], **changes: Any) -> RunSettings:
    content = {"name": "tiny", "scenario": {**tiny, **changes}, "trackers": ()}
    return RunSettings.model_validate(content)
