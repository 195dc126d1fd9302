"""Load the client of a site as its folder has it, to answer inputs and to export its adapter."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from fedmosaic.config import ClientSpec, SiteSettings
from fedmosaic.distributed.messages import decode_response
from fedmosaic.distributed.own_site import OwnSite
from fedmosaic.distributed.site_folder import SessionFolder, SiteFolder
from fedmosaic.distributed.site_run import data_of
from fedmosaic.errors import CheckpointError, DataError
from fedmosaic.evaluation import Record
from fedmosaic.federation.client import LocalClient
from fedmosaic.federation.resources import prepare_torch
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.stored_client import StoredClient


def load_site_client(site: SiteSettings) -> StoredClient:
    """Return the client of a site with the state after its last round.

    A site that took part in several runs has the client of the run that it trained in last.

    Args:
        site: the client's file, as ``fedmosaic.config.site_file.load_site`` reads it.

    Raises:
        CheckpointError: the site has trained in no round yet, or its model is another one.
        SiteError: what it has of the run is damaged.
        FedMosaicError: model or data of the site cannot be loaded.
    """
    assert site.out is not None, "load_site sets it"
    folder = SiteFolder(site.out)
    place = folder.latest_session()
    last = place.newest() if place else None
    if place is None or last is None:
        raise CheckpointError(
            f"client {site.name!r} has trained in no round: {site.out} has no state of it. If it "
            "was started with options such as --out, write them into its file"
        )
    basis = OwnSite(site)
    shared, pivot, _ = place.shared()
    runtime, spec = basis.runtime(shared, pivot)
    if not place.has("model", str(basis.facts()["weights"])):
        raise CheckpointError(
            f"client {site.name!r} joined with another model than {site.model!r}; name the former "
            "one in its file"
        )
    prepare_torch(runtime.settings)
    client = LocalClient(runtime, spec)
    state = place.state_before(last + 1)
    assert state is not None, "there is a newest one"
    client.load(state.path)
    return StoredClient(
        client,
        last + 1,
        True,
        _records(place, basis),
        folder.adapter,
        partial(_require_same_prompts, place, runtime, spec),
    )


def _records(place: SessionFolder, basis: OwnSite) -> list[Record]:
    """Return the scores that the site has sent, under its own names of tasks."""
    own = {label: name for name, label in basis.labels.items()}
    found: list[Record] = []
    for path in place.answers():
        lines: list[dict[str, Any]] = decode_response(path.read_bytes()).header["result"]["records"]
        records = [Record.from_json(line) for line in lines]
        found += [replace(record, task=own.get(record.task, record.task)) for record in records]
    return found


def _require_same_prompts(place: SessionFolder, runtime: Runtime, spec: ClientSpec) -> None:
    """Require that the training items are those that the client joined the run with."""
    if not place.has("data", data_of(runtime, spec)):
        raise DataError(
            "the data has changed since the client joined the run. Its training prompts decide "
            "which model answers: restore the data"
        )
