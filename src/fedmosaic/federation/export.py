"""A client's adapter from a run folder to an ordinary PEFT LoRA adapter."""

from __future__ import annotations

from pathlib import Path

from peft import PeftModel

from fedmosaic.adapters import export_to_folder
from fedmosaic.config import ClientSpec, RunSettings
from fedmosaic.errors import CheckpointError, ConfigError, ModelError
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.transport import InProcess
from fedmosaic.files import atomic_folder


def export_client(folder: RunFolder, settings: RunSettings, client: ClientSpec, out: Path) -> Path:
    """Write what ``client`` uses, as it stands in the latest checkpoint, to the folder ``out``: the first of its algorithm's views.

    Raises:
        ConfigError: ``out`` is there already. CheckpointError: nothing was trained yet. ModelError: no LoRA equals that view.
    """
    if out.exists():
        raise ConfigError(f"{out} already exists; choose another --out")
    checkpoint = folder.latest()
    if checkpoint is None:
        raise CheckpointError(f"{folder.path} has no checkpoint yet")
    runtime = Runtime(settings)
    clients = InProcess(runtime, {client.name})
    clients.load(checkpoint / "clients")
    local = clients.clients[client.name]
    with local.turn(), runtime.algorithm.view(local, runtime.algorithm.views[0]) as model:
        if not isinstance(model, PeftModel):
            raise ModelError(
                f"{settings.algorithm} mixes its adapters anew for every input, which no single LoRA does; each of them stands "
                f"under {folder.path / 'adapters' / client.name} once the run has finished"
            )
        with atomic_folder(out) as work:
            export_to_folder(model, work, adapter=tuple(model.active_adapters))
    return out
