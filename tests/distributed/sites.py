"""Describe the clients of a scenario as sites, and run their turns in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedmosaic.config import RunSettings, SiteSettings
from fedmosaic.distributed.shared import shared_settings, site_runtime
from fedmosaic.federation.instructions import ClientResult, Instructions, Introduction
from fedmosaic.federation.measure import measured_tasks
from fedmosaic.federation.transport import InProcess


def site_of(settings: RunSettings, name: str, **own: Any) -> SiteSettings:
    """Return a simulated client as a site with the data of all tasks it is evaluated on."""
    scenario = settings.scenario
    client = next(client for client in scenario.clients if client.name == name)
    measured = measured_tasks(scenario, client)
    content = {"name": name, "model": client.model, "r": client.r, "tasks": client.tasks}
    return SiteSettings.model_validate({**content, "others": measured, **own})


class Sites:
    """Reach sites in this process, each with a runtime of its own (a transport)."""

    def __init__(self, settings: RunSettings, sites: Sequence[SiteSettings]) -> None:
        shared = shared_settings(settings)
        self.sites: dict[str, InProcess] = {}
        for site in sites:
            runtime, spec = site_runtime(shared, site)
            self.sites[site.name] = InProcess(runtime, {spec.name})

    def introduce(self) -> dict[str, Introduction]:
        return {name: site.introduce()[name] for name, site in self.sites.items()}

    def exchange(
        self, instructions: Mapping[str, Instructions], downloads: Mapping[str, bytes]
    ) -> Iterator[tuple[str, ClientResult]]:
        for name, site in self.sites.items():
            if name in instructions:
                yield from site.exchange({name: instructions[name]}, {name: downloads[name]})

    def placement(self) -> None:
        return None

    def save(self, folder: Path) -> Callable[[], None]:
        writers = [site.save(folder) for site in self.sites.values()]

        def write() -> None:
            for writer in writers:
                writer()

        return write

    def load(self, folder: Path) -> None:
        for site in self.sites.values():
            site.load(folder)

    def save_adapters(self, folder: Path) -> None:
        for site in self.sites.values():
            site.save_adapters(folder)

    def close(self) -> None:
        for site in self.sites.values():
            site.close()
