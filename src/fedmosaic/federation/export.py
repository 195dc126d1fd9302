"""A client's adapter from a run folder to an ordinary PEFT LoRA adapter."""

from __future__ import annotations

from pathlib import Path

from fedmosaic.adapters import export_to_folder
from fedmosaic.config import ClientSpec, RunSettings
from fedmosaic.errors import CheckpointError, ConfigError
from fedmosaic.federation.runfolder import RunFolder
from fedmosaic.federation.site import Site
from fedmosaic.federation.transport import InProcess
from fedmosaic.files import atomic_folder


def export_client(folder: RunFolder, settings: RunSettings, client: ClientSpec, out: Path) -> Path:
    """Write the adapter of ``client`` as it stands in the latest checkpoint to the folder ``out``.

    Raises:
        ConfigError: ``out`` is there already. CheckpointError: nothing was trained yet.
    """
    if out.exists():
        raise ConfigError(f"{out} already exists; choose another --out")
    checkpoint = folder.latest()
    if checkpoint is None:
        raise CheckpointError(f"{folder.path} has no checkpoint yet")
    site = Site(settings)
    clients = InProcess(site, {client.name})
    clients.load(checkpoint / "clients")
    local = clients.clients[client.name]
    with local.turn(), atomic_folder(out) as work:
        export_to_folder(local.model, work, adapter=site.algorithm.adapters)
    return out
