"""Export a client's adapter from a run folder as an ordinary PEFT LoRA adapter."""

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
    """Write the adapter that a client uses, as of the latest checkpoint.

    The adapter is the first of the algorithm's views.

    Args:
        folder: the run folder.
        settings: the run.
        client: the client.
        out: the folder to make.

    Returns:
        the folder.

    Raises:
        ConfigError: ``out`` exists already.
        CheckpointError: the run has no checkpoint yet.
        ModelError: the view mixes adapters anew for every input, which no single LoRA does.
    """
    if out.exists():
        raise ConfigError(f"{out} already exists; choose another --out")
    checkpoint = folder.latest()
    if checkpoint is None:
        raise CheckpointError(f"{folder.path} has no checkpoint yet")
    runtime = Runtime(settings)
    clients = InProcess(runtime, {client.name})
    clients.load(checkpoint / "clients")
    local, view = clients.clients[client.name], runtime.algorithm.views[0]
    with local.turn() as context, runtime.algorithm.view(context, view) as model:
        if not isinstance(model, PeftModel):
            raise ModelError(
                f"{settings.algorithm} mixes its adapters anew for every input, which no single "
                f"LoRA does; once the run has finished, {folder.path / 'adapters' / client.name} "
                "holds each of them"
            )
        with atomic_folder(out) as work:
            export_to_folder(model, work, adapter=tuple(model.active_adapters))
    return out
