"""Store the alignment of one model in a safetensors file that records its identity."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedmosaic.alignment.identity import Identity, as_json
from fedmosaic.errors import CheckpointError
from fedmosaic.files import cache_root, write_atomic
from fedmosaic.packing import pack, unpack

FORMAT = 2
"""Version of the files. Format 1 (other names of settings) is not read; align again."""
BUNDLED = Path(__file__).parent / "bundled"
"""Folder of the alignments that come with the package."""
_KEY = re.compile(r"(?P<site>block\.\d+\.\w+)\.(?P<which>[AB])")


@dataclass(frozen=True)
class Alignment:
    """Hold A and B of one model that have the same meaning as the pivot's.

    Attributes:
        tensors: ``block.{k}.{module}.A`` [r, d_in] and ``.B`` [d_out, r], as
            :func:`fedmosaic.adapters.load_shared` takes them.
        identity: what the alignment depends on.
        layers: block ends of the model (0-based), block by block.
        scaled: whether A and B have the strength at which they are to be used, as after refinement;
            otherwise an adapter may scale them (``adapter.shared_scale``).
        report: quality before and after, in values that JSON can hold. It is for people and files;
            nothing is computed from it.
    """

    tensors: Mapping[str, Tensor]
    identity: Identity
    layers: tuple[int, ...]
    scaled: bool = False
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> Mapping[str, Any]:
        """Return the settings and the placement with which it was made."""
        return self.identity.settings

    @property
    def digest(self) -> str:
        """Return 32 hex digits over A and B."""
        return _digest(self.tensors)


def save_alignment(alignment: Alignment, folder: Path | None = None) -> Path:
    """Write an alignment to a folder, completely or not at all.

    The identity gives the name of the file. Equal alignments are written as equal bytes.

    Args:
        alignment: what to write.
        folder: the cache by default.

    Returns:
        the path of the file.

    Raises:
        CheckpointError: the tensors are not A and B.
    """
    tensors = {
        key: alignment.tensors[key].detach().cpu().contiguous() for key in sorted(alignment.tensors)
    }
    _check(tensors, "the alignment")
    identity = vars(alignment.identity) | {"settings": as_json(alignment.settings)}
    content = {
        "format": FORMAT,
        "identity": identity,
        "layers": list(alignment.layers),
        "scaled": alignment.scaled,
        "report": as_json(alignment.report),
        "digest": _digest(tensors),
    }
    path = (folder if folder is not None else cache_folder()) / alignment.identity.file_name
    write_atomic(path, pack(tensors, content))
    return path


def find_alignment(identity: Identity, folders: Sequence[Path] | None = None) -> Alignment | None:
    """Return the stored alignment of exactly this identity, or None.

    Args:
        identity: what to look for.
        folders: searched after the alignments that come with the package; the cache by default.

    Raises:
        CheckpointError: the file is damaged or its content does not fit its name.
    """
    for folder in (BUNDLED, *(folders if folders is not None else [cache_folder()])):
        found = find_in_folder(folder, identity)
        if found is not None:
            return found
    return None


def find_in_folder(folder: Path, identity: Identity) -> Alignment | None:
    """Return the alignment of exactly this identity in one folder, or None.

    Raises:
        CheckpointError: as :func:`find_alignment`.
    """
    # Only the key counts: the same model under another path has another name, but the same key.
    for path in sorted(folder.glob(f"*--{identity.key}.safetensors")):
        return load_alignment(path, identity)
    return None


def load_alignment(path: Path, expected: Identity | None = None) -> Alignment:
    """Read one file.

    Args:
        path: the file.
        expected: identity that the alignment must have.

    Raises:
        CheckpointError: the file is missing, truncated, changed or of another kind or format; or it
            has another identity than ``expected`` (the message names what changed).
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"alignment {path} cannot be read: {error.strerror}") from error
    try:
        tensors, content = unpack(data)
        if content["format"] != FORMAT:
            raise CheckpointError(
                f"alignment {path} has format {content['format']}, but this version reads format "
                f"{FORMAT}; delete it and align again"
            )
        stored, report = Identity(**content["identity"]), dict(content["report"])
        layers, scaled = tuple(map(int, content["layers"])), bool(content["scaled"])
        intact = content["digest"] == _digest(tensors)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is damaged or is not an alignment ({error}); delete it and align again"
        ) from error
    if not intact:
        raise CheckpointError(
            f"alignment {path} is damaged: its values are not those that were written; delete it "
            "and align again"
        )
    _check(tensors, f"alignment {path}")
    if expected is not None and stored.key != expected.key:
        changed = "; ".join(stored.changes(expected))
        raise CheckpointError(
            f"alignment {path} is out of date, changed since: {changed}. Align again"
        )
    return Alignment(tensors, stored, layers, scaled, report)


def cache_folder() -> Path:
    """Return ``alignments`` in the cache (see :func:`fedmosaic.files.cache_root`)."""
    return cache_root() / "alignments"


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for key in sorted(tensors):
        value = tensors[key]
        digest.update(f"{key} {value.dtype} {list(value.shape)}".encode())
        digest.update(value.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _check(tensors: Mapping[str, Tensor], what: str) -> None:
    """Raise CheckpointError unless every site has a finite A [r, d_in] and B [d_out, r]."""
    ranks: dict[str, dict[str, int]] = {}
    for key, value in tensors.items():
        found = _KEY.fullmatch(key)
        if found is None or value.dim() != 2 or not value.is_floating_point():
            raise CheckpointError(
                f"{what} holds {key!r}, {value.dtype} {list(value.shape)}; expected a matrix named "
                "block.<k>.<module>.A or .B"
            )
        if not bool(torch.isfinite(value).all()):
            raise CheckpointError(f"{what}: {key} holds NaN or Inf")
        ranks.setdefault(found["site"], {})[found["which"]] = value.shape[
            0 if found["which"] == "A" else 1
        ]
    for site, both in ranks.items():
        if set(both) != {"A", "B"} or both["A"] != both["B"]:
            raise CheckpointError(f"{what} needs both {site}.A and {site}.B, of one rank")
    if not ranks:
        raise CheckpointError(f"{what} holds no A and B")
