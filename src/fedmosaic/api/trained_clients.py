"""Export the trained client of a run or of a site from Python, and find it for other uses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fedmosaic.config.site_file import load_site
from fedmosaic.errors import CheckpointError, ConfigError, listed, nearest
from fedmosaic.federation.run_folder import RunFolder

if TYPE_CHECKING:
    from fedmosaic.federation.stored_client import StoredClient


def export(
    source: str | Path,
    client: str | None,
    out: str | Path,
    *,
    layout: Literal["peft", "vllm"] = "peft",
    experts: bool = False,
) -> Path:
    """Write a client's adapter as an ordinary PEFT LoRA adapter, which needs no fedmosaic to load.

    The folder also holds a model card (``README.md``) with the scores and how to load the adapter.

    Args:
        source: a run folder; or the file of a client that took part in a federation across
            machines, at its own site.
        client: the client's name; None where a client's file says it.
        out: the folder to make.
        layout: ``peft``; or ``vllm``: one rank everywhere and no bias, for vLLM, llama.cpp and
            merging.
        experts: export the client's own model, what it received and each of its experts, as an
            adapter each, with what chooses between them (``router.safetensors``, ``router.json``).
            The folder then holds features of the client's training prompts.

    Returns:
        the new folder.

    Raises:
        ConfigError: unknown client, ``out`` exists, or the algorithm has no experts.
        CheckpointError: the client has trained in no round yet, it is at a site of its own, or an
            earlier version made the run.
        ModelError: the adapter equals no LoRA (``gate=input``), plain PEFT cannot load it, or with
            ``vllm`` Q makes a bias (``adapter.q: false`` trains without).
    """
    from fedmosaic.federation.export import export_client, require_new
    from fedmosaic.federation.export_experts import export_experts

    require_new(Path(out))
    stored = trained_client(Path(source), client)
    return (export_experts if experts else export_client)(stored, Path(out), layout)


def trained_client(source: Path, client: str | None) -> StoredClient:
    """Return a client with its state after the last round that is stored.

    Args:
        source: a run folder, or the file of a client at its own site.
        client: the client's name; None where a client's file says it.

    Raises:
        CheckpointError: neither a run folder nor a client's file, no round is finished, the run's
            clients are at sites of their own, or an earlier version made it.
        ConfigError: unknown client, or none is named; the client's file is not valid.
        FedMosaicError: its model or data cannot be loaded.
    """
    if source.is_file():
        site = load_site(source)
        if client not in (None, site.name):
            raise ConfigError(f"{source} is the file of client {site.name!r}, not of {client!r}")
        from fedmosaic.distributed.site_client import load_site_client

        return load_site_client(site)
    if (source / "sessions").is_dir():
        raise CheckpointError(
            f"{source} is the folder of a client at its site: give the client's file in its place"
        )
    opened, settings = RunFolder.open(source)
    opened.require_current()
    settings.require_simulated(source, "at a site, give the client's file in place of the folder")
    specs = {spec.name: spec for spec in settings.scenario.clients}
    if client is None:
        raise ConfigError(f"name one of the clients of {source}: {listed(list(specs))}")
    if client not in specs:
        raise ConfigError(f"{source} has no client {client!r}.{nearest(client, specs)}")
    from fedmosaic.federation.stored_client import load_client

    return load_client(opened, settings, specs[client])
