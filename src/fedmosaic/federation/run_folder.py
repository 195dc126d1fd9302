"""The run folder: what a run leaves on disk, written so that a run killed at any moment can go on from it.

config.yaml            the resolved settings, with versions
metrics.jsonl          one line for each measurement, client turn and round
checkpoints/round-k/   server and clients after k rounds (the two latest)
adapters/<client>/     adapters in the form ``save_pretrained`` gives them
summary.json           the figures of a finished run
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from fedmosaic.config import RunSettings
from fedmosaic.config.load import parse
from fedmosaic.errors import CheckpointError, ConfigError
from fedmosaic.files import atomic_folder, write_atomic

KEPT_CHECKPOINTS = 2


class RunFolder:
    """One run on disk.

    Args:
        path: the folder; :meth:`vacant` wants it empty or absent, :meth:`open` expects a run in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"

    @classmethod
    def vacant(cls, path: Path) -> RunFolder:
        """A folder for a new run; nothing is written yet. Raises ConfigError if it already holds something."""
        half = ".config.yaml."  # all that a run killed while it began can have left
        if path.exists() and (
            not path.is_dir() or any(not found.name.startswith(half) for found in path.iterdir())
        ):
            raise ConfigError(
                f"{path} already exists; choose another --out, or continue it with: fedmosaic run --resume {path}"
            )
        return cls(path)

    def create(self, settings: RunSettings) -> None:
        """Write the settings: from here on the run can be resumed. Raises ConfigError if that is not possible."""
        text = yaml.safe_dump(
            settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120
        )
        try:
            write_atomic(self.path / "config.yaml", text)
        except OSError as error:
            raise ConfigError(
                f"the run folder {self.path} cannot be written: {error.strerror}"
            ) from error

    @classmethod
    def open(cls, path: Path) -> tuple[RunFolder, RunSettings]:
        """An existing run and its settings. Raises CheckpointError if there is none."""
        config = path / "config.yaml"
        if not config.is_file():
            raise CheckpointError(f"{path} is not a run folder: it has no config.yaml")
        try:
            content = yaml.safe_load(config.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise CheckpointError(f"{config} cannot be read: {error}") from error
        return cls(path), parse(RunSettings, content, str(config))

    def clear_leftovers(self) -> None:
        """Remove what an interrupted write left behind. Only for who continues the run: nobody else may be writing."""
        half = [*self.checkpoints.glob(".round-*"), *self.path.glob(".adapters.*")]
        for name in ("config.yaml", "metrics.jsonl", "summary.json"):
            half += self.path.glob(f".{name}.*")
        for leftover in half:
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)
        self._prune()

    # --- metrics ----------------------------------------------------------------------------------------------------
    def append(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Add lines to the metrics file and see them to the disk."""
        text = "".join(json.dumps(line) + "\n" for line in lines)
        with self.metrics.open("a", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())

    def lines(self) -> list[dict[str, Any]]:
        """All complete lines of the metrics file."""
        if not self.metrics.is_file():
            return []
        raw = self.metrics.read_text(encoding="utf-8")
        return [json.loads(line) for line in raw[: raw.rfind("\n") + 1].splitlines()]

    def truncate(self, count: int) -> None:
        """Keep the first ``count`` lines: what was measured after the checkpoint will be measured again."""
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

    # --- checkpoints ------------------------------------------------------------------------------------------------
    @contextmanager
    def checkpoint(self, rounds: int) -> Iterator[Path]:
        """A folder to write the state after ``rounds`` rounds into; it counts once the block ends."""
        with atomic_folder(self.checkpoints / f"round-{rounds:04d}") as work:
            yield work
        self._prune()

    def _prune(self) -> None:
        for old in self._complete()[:-KEPT_CHECKPOINTS]:
            shutil.rmtree(old)

    def latest(self) -> Path | None:
        """The last complete checkpoint; None before the first one."""
        complete = self._complete()
        return complete[-1] if complete else None

    def _complete(self) -> list[Path]:
        return sorted(path for path in self.checkpoints.glob("round-*") if path.is_dir())

    # --- results ----------------------------------------------------------------------------------------------------
    def write_summary(self, summary: Mapping[str, Any]) -> None:
        write_atomic(self.path / "summary.json", json.dumps(summary, indent=2) + "\n")

    def summary(self) -> dict[str, Any] | None:
        """The summary of a finished run, or None."""
        path = self.path / "summary.json"
        if not path.is_file():
            return None
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content

    @contextmanager
    def adapters(self) -> Iterator[Path]:
        """A folder to write the clients' adapters into, replaced as a whole."""
        with atomic_folder(self.path / "adapters") as work:
            yield work
