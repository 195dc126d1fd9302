"""Define the error types of the library. Every message says what is wrong and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class FedMosaicError(Exception):
    """Report an error that the user can act on; the command prints it without a traceback."""


class ConfigError(FedMosaicError):
    """Report a wrong scenario, option or command."""


class DataError(FedMosaicError):
    """Report a missing or malformed data file, image or example."""


class ModelError(FedMosaicError):
    """Report a model that cannot be loaded or lacks a needed structure."""


class UpdateError(FedMosaicError):
    """Report a malformed message between client and server."""


class TrainingError(FedMosaicError):
    """Report that the local training of a client diverged."""


class LinkError(FedMosaicError):
    """A request cannot be sent to a site: its node is gone, or the link is down."""


class SiteError(FedMosaicError):
    """A site is refused, has lost its state, or is missing."""


class CheckpointError(FedMosaicError):
    """Report a missing, damaged or unsuitable run folder, checkpoint or stored alignment."""


class Interrupted(KeyboardInterrupt):
    """Report that the user stopped a run with Ctrl-C.

    Attributes:
        folder: The run folder.
        resume_command: The command that continues the run.
    """

    def __init__(self, folder: Path, resume_command: str = "") -> None:
        super().__init__(str(folder))
        self.folder = folder
        self.resume_command = resume_command or f"fedmosaic run --resume {folder}"


def listed(names: Iterable[str], most: int = 8) -> str:
    """Return the first names of many, in their order: ``"a, b, c and 5 more"``."""
    every = list(names)
    rest = len(every) - most
    return ", ".join(every[:most]) + (f" and {rest} more" if rest > 0 else "")


def nearest(word: str, valid: Iterable[str]) -> str:
    """Return a hint with the valid names closest to ``word``: ``" Did you mean 'a' or 'b'?"``.

    If none is close, the hint lists the valid names (at most 12; with more it is empty).
    """
    names = sorted(set(valid))
    close = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    if close:
        return " Did you mean " + " or ".join(repr(name) for name in close) + "?"
    if 0 < len(names) <= 12:
        return " Valid: " + ", ".join(names) + "."
    return ""
