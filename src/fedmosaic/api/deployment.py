"""Serve a federation to sites on other machines, and take part in one as a site."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from fedmosaic.api.runs import _callback
from fedmosaic.api.scenarios import with_overrides
from fedmosaic.config import RunSettings, Scenario, SiteSettings
from fedmosaic.config.load import parse
from fedmosaic.errors import CheckpointError, ConfigError, Interrupted, SiteError, listed
from fedmosaic.federation.beginning import versions
from fedmosaic.federation.located import located
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.late_import import quick_imports
from fedmosaic.models.clock import current_time

if TYPE_CHECKING:
    from fedmosaic.distributed.keys import ClientKeys, ServerKeys
    from fedmosaic.distributed.link import Link
    from fedmosaic.distributed.site import ClientSite
    from fedmosaic.federation.callbacks import Callback
    from fedmosaic.federation.run import Run

Say = Callable[[str], None]
LISTEN = ("127.0.0.1", 9092)


def serve(
    scenario: str | Path | Scenario | None,
    *,
    out: str | Path,
    keys: str | Path | None,
    listen: tuple[str, int] = LISTEN,
    algorithm: str = "fedmosaic",
    seed: int = 0,
    overrides: Sequence[str] = (),
    progress: bool = True,
    say: Say = print,
    **options: Any,
) -> Run:
    """Serve a federation until it has finished; go on with the one in ``out`` if there is one.

    Args:
        scenario: as for :func:`fedmosaic.run`, without models and tasks of its clients. None:
            continue the federation in ``out``.
        out: folder of the run.
        keys: folder of ``fedmosaic keys``, or its part ``server``; None for plain text without
            authentication.
        listen: host and port where clients connect. Port 0: any that is free.
        algorithm: name, see ``fedmosaic list algorithms``.
        seed: seed of every random draw of the run.
        overrides: changes of single settings, ``["train.lr=1e-3"]``.
        progress: whether to show progress in the terminal.
        say: takes a line for each event.
        **options: further fields of :class:`~fedmosaic.config.RunSettings`: ``trackers``.

    Returns:
        the run's folder and summary.

    Raises:
        FedMosaicError: what is wrong; the folder can be continued with the same call.
        Interrupted: Ctrl-C; likewise.
    """
    path = Path(out)
    folder, settings, given = _opened(path, scenario, algorithm, seed, overrides, options, say)
    from fedmosaic.federation.run import Run

    if (summary := folder.summary()) is not None:
        say(f"{path} has finished already")
        return Run(path, summary)
    callback = _callback(settings, path, progress, ())
    with _locked(path / ".server.lock"), _continuable(path):
        return _run_server(folder, settings, given, keys, listen, callback, say)


def _run_server(
    folder: RunFolder,
    settings: RunSettings,
    given: str,
    keys: str | Path | None,
    listen: tuple[str, int],
    callback: Callback,
    say: Say,
) -> Run:
    """Start the link and run the federation over it."""
    with quick_imports():
        from fedmosaic.distributed.keys import ServerKeys
        from fedmosaic.distributed.server import FederationServer
        from fedmosaic.engines.flower.superlink import FlowerLink
    found = ServerKeys.read(Path(keys)) if keys is not None else None
    _check_keys(settings, found, say)
    say("starting the link; this takes some seconds")
    limit = int(settings.scenario.deployment.max_message_gib * (1 << 30))
    link: Link = FlowerLink(
        folder.path / ".link", found, listen=listen, max_bytes=limit, on_event=say
    )
    try:
        verify = _verifier(found)
        return FederationServer(folder, settings, link, verify, callback, say, given).run()
    finally:
        link.close()


def take_part(site: SiteSettings, *, insecure: bool = False, say: Say = print) -> Path:
    """Take part in a federation as one client, until it has finished.

    Args:
        site: the client's file, as ``fedmosaic.config.site_file.load_site`` reads it.
        insecure: connect in plain text without keys.
        say: takes a line for each event.

    Returns:
        the client's folder.

    Raises:
        FedMosaicError: the server refuses this client, or something here is wrong. What the client
            has trained stays in its folder; the same call goes on from there.
    """
    for field in ("server", *(() if insecure else ("keys",))):
        if not getattr(site, field):
            raise ConfigError(f"client {site.name}: {field}: is not set; see fedmosaic client -h")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    say(f"client {site.name} is starting")
    with quick_imports():
        from fedmosaic.distributed.keys import ClientKeys, sign
        from fedmosaic.distributed.own_site import OwnSite
        from fedmosaic.distributed.site import ClientSite
        from fedmosaic.distributed.site_folder import SiteFolder
        from fedmosaic.engines.flower.connection import check_address
    assert site.out is not None, "load_site sets it"
    check_address(site.server)  # a mistake shows before the model is loaded
    found = None if insecure or site.keys is None else ClientKeys.read(site.keys, site.name)
    basis = OwnSite(site, None if found is None else lambda data: sign(found.key, data))
    say(f"loading {site.model} and {listed([task.name for task in site.tasks])}")
    basis.facts()  # before the server waits for them
    own = ClientSite(basis, SiteFolder(site.out), say)
    with _continuable(site.out):
        _answer_server(own, site, found, say)
    if own.refused:
        raise SiteError(own.refused)
    return site.out


def _answer_server(own: ClientSite, site: SiteSettings, keys: ClientKeys | None, say: Say) -> None:
    """Answer the server's requests until it has ended the run."""
    from fedmosaic.engines.flower.connection import serve_site

    until = threading.Event()

    def answer(payload: bytes) -> bytes:
        given = own(payload)
        if own.finished:
            until.set()
        return given

    was_connected = threading.Event()

    def event(line: str) -> None:
        say(line)
        if line.startswith("connected"):
            was_connected.set()
        elif was_connected.is_set() or "clock" in line:
            own.note_link(line)

    assert site.out is not None
    serve_site(
        answer,
        server=site.server,
        keys=keys,
        folder=site.out / "connection",
        on_event=event,
        until=until,
        patience=site.reconnect_seconds,
    )


# --- helpers ------------------------------------------------------------------------------------
def _opened(
    path: Path,
    scenario: str | Path | Scenario | None,
    algorithm: str,
    seed: int,
    overrides: Sequence[str],
    options: Any,
    say: Say,
) -> tuple[RunFolder, RunSettings, str]:
    """Return the run's folder, its settings, and those that were given, as JSON."""
    from fedmosaic.distributed.refusals import require_deployable, served
    from fedmosaic.distributed.server_record import ServerRecord

    given = ""
    if scenario is not None:
        name, chosen = with_overrides(scenario, overrides)
        content = {"name": name, "algorithm": algorithm, "seed": seed, "scenario": chosen}
        settings = served(parse(RunSettings, {**content, **options}, "run"), say)
        given = settings.model_dump_json(exclude={"versions", "started", "settled", "trackers"})
    elif overrides:
        raise ConfigError("a run that is continued has its settings; leave out --set")
    if (path / "config.yaml").is_file():
        folder, recorded = RunFolder.open(path)
        folder.require_current()
        ServerRecord(path, given)  # other settings are refused before anything is started
        return folder, recorded, given
    if scenario is None:
        raise CheckpointError(f"{path} holds no run; name the scenario to serve")
    require_deployable(settings)
    folder = RunFolder.vacant(path)
    began = {"versions": versions(), "started": current_time(), "settled": False}
    recorded = located(settings.model_copy(update=began))
    folder.create(recorded)
    return folder, recorded, given


def _check_keys(settings: RunSettings, keys: ServerKeys | None, say: Say) -> None:
    """Require a key for every client, and say which keys belong to none."""
    names = [client.name for client in settings.scenario.clients]
    if keys is None:
        say("plain text, without authentication: whoever reaches this port can take part")
        return
    if missing := [name for name in names if name not in keys.clients]:
        raise ConfigError(
            f"{keys.folder} has no key of {listed(missing)}; make it with: fedmosaic keys DIR "
            f"--add {missing[0]}"
        )
    if more := sorted(set(keys.clients) - set(names)):
        say(f"no client of the scenario, although there is a key: {listed(more)}")


def _verifier(keys: ServerKeys | None) -> Callable[[str, bytes, bytes], bool] | None:
    if keys is None:
        return None
    from fedmosaic.distributed.keys import verify

    known = keys.clients
    return lambda name, challenge, proof: name in known and verify(known[name], challenge, proof)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one server at a time use a folder."""
    try:
        with FileLock(path, timeout=0):
            yield
    except Timeout:
        raise ConfigError(f"another server uses {path.parent}: is it running?") from None


@contextmanager
def _continuable(path: Path) -> Iterator[None]:
    """Let Ctrl-C name what continues."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise Interrupted(path, "the same command") from stop
