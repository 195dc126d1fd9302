"""Write and read a run folder, so that a run killed at any moment can be resumed.

::

    config.yaml            the settings, with versions; written first, then with all choices made
    data.safetensors       digests of all items that the run uses
    placement.json         which modules carry adapters, which sites are shared
    metrics.jsonl          one line for each score, client turn and round
    .clients/              while the run goes on: clients that are not in memory
    checkpoints/round-k/   server and clients after k rounds (the two latest); a client that did
                           not change is one file in both
    .server/               while the run goes on: what does not fit into ``server.memory``
    adapters/<client>/     adapters in the form that ``save_pretrained`` writes
    summary.json           the figures of a finished run
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from fedmosaic.config import RunSettings, renamed
from fedmosaic.config.load import parse
from fedmosaic.config.yaml_text import read_yaml
from fedmosaic.errors import CheckpointError, ConfigError
from fedmosaic.files import atomic_folder, write_atomic

if TYPE_CHECKING:
    from fedmosaic.federation.data_record import DataRecord

CHECKPOINTS = 2
CLIENTS = ".clients"


class RunFolder:
    """Hold one run on disk.

    Args:
        path: the folder. Use :meth:`vacant` for a new run and :meth:`open` for an existing one.
        former: what became of a setting of its ``config.yaml`` that was renamed or removed since;
            empty for none.

    Attributes:
        settled: whether :meth:`create` wrote settings with every automatic choice made.
    """

    def __init__(self, path: Path, former: str = "") -> None:
        self.path = path
        self.former = former
        self.settled = False
        self._made: list[Path] = []
        self.metrics = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.server_rows = path / ".server"

    @classmethod
    def vacant(cls, path: Path) -> RunFolder:
        """Return a folder for a new run; nothing is written yet.

        Raises:
            ConfigError: the folder already holds something.
        """
        half = ".config.yaml."  # a run killed while it began can have left only this
        if path.exists() and (
            not path.is_dir() or any(not found.name.startswith(half) for found in path.iterdir())
        ):
            raise ConfigError(
                f"{path} already exists; choose another --out, or continue it with: "
                f"fedmosaic run --resume {path}"
            )
        return cls(path)

    def create(self, settings: RunSettings) -> None:
        """Write the settings; from now on the run can be resumed.

        Called again when every automatic choice is made (``settings.settled``).

        Raises:
            ConfigError: the folder cannot be written.
        """
        self._made = self._made or [p for p in (self.path, *self.path.parents) if not p.exists()]
        text = yaml.safe_dump(
            settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120
        )
        try:
            write_atomic(self.path / "config.yaml", text)
        except OSError as error:
            raise ConfigError(
                f"the run folder {self.path} cannot be written: {error.strerror}"
            ) from error
        self.settled = settings.settled

    def withdraw(self) -> None:
        """Remove the folder of a run that was refused: one whose settings are not settled."""
        if self.settled:
            return
        for name in ("config.yaml", "data.safetensors"):
            (self.path / name).unlink(missing_ok=True)
        with suppress(OSError):  # something else is in the folder by now
            for made in self._made:
                made.rmdir()

    @classmethod
    def open(cls, path: Path) -> tuple[RunFolder, RunSettings]:
        """Return an existing run and its settings.

        Settings of an earlier version are read in today's names.

        Raises:
            CheckpointError: there is no run, or its settings cannot be read.
            ConfigError: its settings are not valid.
        """
        config = path / "config.yaml"
        if not config.is_file():
            raise CheckpointError(f"{path} is not a run folder: it has no config.yaml")
        try:
            content = read_yaml(config, "run settings")
        except ConfigError as error:
            raise CheckpointError(f"the run {path} cannot be read: {error}") from error
        former = ""
        if isinstance(content, dict) and isinstance(scenario := content.get("scenario"), dict):
            former = next(iter(renamed.former_settings(scenario)), "")
            content["scenario"] = renamed.translate_scenario(scenario)
            content["algorithm"] = renamed.translate_algorithm(str(content.get("algorithm")))
        return cls(path, former), parse(RunSettings, content, str(config), recorded=True)

    def require_current(self) -> None:
        """Check that this version can continue the run, adapt its clients and export adapters.

        Raises:
            CheckpointError: an earlier version wrote it, whose checkpoints have another format.
        """
        if self.former:
            raise CheckpointError(
                f"{self.path} was made by an earlier version of fedmosaic: in its config.yaml "
                f"{self.former}. This version can show and report it, but cannot "
                "continue, adapt or export it; run its scenario again in a new folder, or use the "
                f"version that {self.path / 'config.yaml'} names"
            )

    def clear_leftovers(self) -> None:
        """Remove what an interrupted write left behind.

        Only the process that continues the run may call this, since no other may be writing.
        """
        half = [*self.checkpoints.glob(".round-*"), *self.path.glob(".adapters.*")]
        half += [self.server_rows] if self.server_rows.is_dir() else []
        half += self.path.glob(CLIENTS)
        for name in (
            "config.yaml",
            "data.safetensors",
            "placement.json",
            "metrics.jsonl",
            "summary.json",
        ):
            half += self.path.glob(f".{name}.*")
        for leftover in half:
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)
        self._prune()

    # --- data ---------------------------------------------------------------------------------
    def write_data_record(self, record: DataRecord) -> None:
        """Write which data the run works on."""
        write_atomic(self.path / "data.safetensors", record.to_bytes())

    def data_record(self) -> DataRecord | None:
        """Return which data the run works on; None in a run of an earlier version.

        Raises:
            CheckpointError: the file is damaged.
        """
        from fedmosaic.federation.data_record import DataRecord  # imports PyTorch

        path = self.path / "data.safetensors"
        return DataRecord.read(path) if path.is_file() else None

    # --- metrics ------------------------------------------------------------------------------
    def append(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Add lines to the metrics file and flush them to the disk."""
        text = "".join(json.dumps(line) + "\n" for line in lines)
        with self.metrics.open("a", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())

    def lines(self) -> list[dict[str, Any]]:
        """Return all complete lines of the metrics file."""
        if not self.metrics.is_file():
            return []
        raw = self.metrics.read_text(encoding="utf-8")
        return [json.loads(line) for line in raw[: raw.rfind("\n") + 1].splitlines()]

    def truncate(self, count: int) -> None:
        """Keep the first ``count`` lines of the metrics file.

        What was measured after the checkpoint will be measured again.

        Raises:
            CheckpointError: there are fewer lines.
        """
        if not self.metrics.is_file():
            if count:
                raise CheckpointError(
                    f"{self.metrics} is missing; the checkpoint expects {count} lines in it"
                )
            return
        content = self.metrics.read_bytes().split(b"\n")[:-1]
        if len(content) < count:
            raise CheckpointError(
                f"{self.metrics} has {len(content)} lines; the checkpoint expects {count}"
            )
        write_atomic(self.metrics, b"".join(line + b"\n" for line in content[:count]))

    # --- checkpoints --------------------------------------------------------------------------
    @contextmanager
    def checkpoint(self, rounds: int) -> Iterator[Path]:
        """Yield a folder for the state after ``rounds`` rounds; it is valid once the block ends."""
        with atomic_folder(self.checkpoints / f"round-{rounds:04d}") as work:
            yield work
        self._prune()

    def _prune(self) -> None:
        for old in self._complete()[:-CHECKPOINTS]:
            shutil.rmtree(old)

    def latest(self) -> Path | None:
        """Return the last complete checkpoint; None before the first one."""
        complete = self._complete()
        return complete[-1] if complete else None

    def _complete(self) -> list[Path]:
        return sorted(path for path in self.checkpoints.glob("round-*") if path.is_dir())

    # --- results ------------------------------------------------------------------------------
    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write the figures of a finished run."""
        write_atomic(self.path / "summary.json", json.dumps(summary, indent=2) + "\n")

    def write_placement(self, found: Mapping[str, Any]) -> None:
        """Write which modules carry adapters and which sites are shared."""
        write_atomic(self.path / "placement.json", json.dumps(found, indent=2) + "\n")

    def placement(self) -> dict[str, Any] | None:
        """Return which modules carry adapters; None in a run of an earlier version."""
        path = self.path / "placement.json"
        if not path.is_file():
            return None
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content

    def summary(self) -> dict[str, Any] | None:
        """Return the figures of a finished run, or None."""
        path = self.path / "summary.json"
        if not path.is_file():
            return None
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if "algorithm" in content:
            content["algorithm"] = renamed.translate_algorithm(str(content["algorithm"]))
        return content

    @contextmanager
    def adapters(self) -> Iterator[Path]:
        """Yield a folder for the clients' adapters, which replaces the old one as a whole."""
        with atomic_folder(self.path / "adapters") as work:
            yield work
