"""The few error types of the library; every message names the thing at fault and the way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class FedMosaicError(Exception):
    """Base of all errors that a user can act on; the command prints them without a traceback."""


class ConfigError(FedMosaicError):
    """A scenario, an option or a command is wrong."""


class DataError(FedMosaicError):
    """A data file, an image or an example is missing or malformed."""


class ModelError(FedMosaicError):
    """A model cannot be loaded or does not have the structure that is needed."""


class UpdateError(FedMosaicError):
    """A message between client and server is not what was agreed on."""


class TrainingError(FedMosaicError):
    """A client's local training diverged."""


class CheckpointError(FedMosaicError):
    """A run folder, a checkpoint or a stored alignment is missing, damaged or belongs to something else."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a run; ``folder`` is where it can be continued from, ``again`` the command that does it."""

    def __init__(self, folder: Path, again: str = "") -> None:
        super().__init__(str(folder))
        self.folder = folder
        self.again = again or f"fedmosaic run --resume {folder}"


def nearest(word: str, valid: Iterable[str]) -> str:
    """A hint with the valid names closest to ``word``: ``" Did you mean 'a' or 'b'?"``.

    Falls back to listing the valid names when there are at most 12 of them, and to an empty string otherwise.
    """
    names = sorted(set(valid))
    close = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    if close:
        return " Did you mean " + " or ".join(repr(name) for name in close) + "?"
    if 0 < len(names) <= 12:
        return " Valid: " + ", ".join(names) + "."
    return ""
