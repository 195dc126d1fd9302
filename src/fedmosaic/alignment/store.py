"""The result of aligning one model to a pivot, in one safetensors file that says what it is an alignment of."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedmosaic.config import AlignmentSettings
from fedmosaic.data.example import Example, fingerprint
from fedmosaic.errors import CheckpointError
from fedmosaic.files import cache_root, write_atomic
from fedmosaic.models.backbone import Backbone
from fedmosaic.packing import pack, unpack

FORMAT = 1
BUNDLED = Path(__file__).parent / "bundled"
_KEY = re.compile(r"(?P<site>block\.\d+\.\w+)\.(?P<which>[AB])")


@dataclass(frozen=True)
class Identity:
    """What an alignment depends on: change any of it, and it is another one.

    Attributes:
        model, pivot: names, for people; they do not count.
        model_weights, pivot_weights: :attr:`Backbone.fingerprint`.
        public: fingerprint of the public examples.
        settings: how it was made (anything JSON takes).
    """

    model: str
    pivot: str
    model_weights: str
    pivot_weights: str
    public: str
    settings: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        model: Backbone,
        pivot: Backbone,
        examples: Iterable[Example],
        settings: Mapping[str, Any],
    ) -> Identity:
        """The identity of the alignment of ``model`` to ``pivot`` on these examples."""
        names = plain_name(model.name), plain_name(pivot.name)
        return cls(
            *names, model.fingerprint, pivot.fingerprint, fingerprint(examples), _as_json(settings)
        )

    @property
    def key(self) -> str:
        """16 hex digits over all that counts; part of the file's name."""
        return hashlib.blake2b(
            json.dumps(self._parts(), sort_keys=True).encode(), digest_size=8
        ).hexdigest()

    @property
    def file_name(self) -> str:
        """``<model>--<pivot>--<key>.safetensors``."""
        return f"{_slug(self.model)}--{_slug(self.pivot)}--{self.key}.safetensors"

    def _parts(self) -> dict[str, Any]:
        """What counts, under the names that messages give it."""
        return {
            "the model's weights": self.model_weights,
            "the pivot's weights": self.pivot_weights,
            "the public data": self.public,
            **{f"the setting {name!r}": value for name, value in self.settings.items()},
        }

    def changes(self, other: Identity) -> list[str]:
        """In what ``other`` differs, in words."""
        mine, theirs = self._parts(), other._parts()
        found = []
        for name in {**mine, **theirs}:
            if mine.get(name) != theirs.get(name):
                values = (
                    f" ({mine.get(name)} -> {theirs.get(name)})"
                    if name.startswith("the setting")
                    else ""
                )
                found.append(name + values)
        return found


def counted(settings: AlignmentSettings) -> dict[str, Any]:
    """The settings that make an alignment another one: not those that name what an identity knows by its content."""
    return settings.model_dump(
        mode="json", exclude={"size": True, "pivot": True, "refine": {"join"}}
    )


@dataclass(frozen=True)
class Alignment:
    """A and B of one model that mean what the pivot's mean.

    Attributes:
        tensors: ``block.{k}.{module}.A`` [r, d_in] and ``.B`` [d_out, r], as :func:`fedmosaic.adapters.load_shared` takes them.
        identity: of what it is an alignment.
        report: what it bought, before and after (anything JSON takes).
    """

    tensors: Mapping[str, Tensor]
    identity: Identity
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> Mapping[str, Any]:
        """How it was made."""
        return self.identity.settings

    @property
    def digest(self) -> str:
        """32 hex digits over A and B."""
        return _digest(self.tensors)


def save_alignment(alignment: Alignment, folder: Path | None = None) -> Path:
    """Write to ``folder`` (default the cache) under the name that its identity gives it, whole or not at all.

    Equal alignments are equal bytes. Raises CheckpointError for tensors that are no A and B.
    """
    tensors = {
        key: alignment.tensors[key].detach().cpu().contiguous() for key in sorted(alignment.tensors)
    }
    _check(tensors, "the alignment")
    identity = vars(alignment.identity) | {"settings": _as_json(alignment.settings)}
    content = {
        "format": FORMAT,
        "identity": identity,
        "report": _as_json(alignment.report),
        "digest": _digest(tensors),
    }
    path = (folder if folder is not None else cache_folder()) / alignment.identity.file_name
    write_atomic(path, pack(tensors, content))
    return path


def find_alignment(identity: Identity, folders: Sequence[Path] | None = None) -> Alignment | None:
    """The stored alignment of exactly this identity, or None.

    Looks among those that come with the package, then in ``folders`` (default: the cache).

    Raises:
        CheckpointError: there is one, but it is damaged or is not what its name says.
    """
    for folder in (BUNDLED, *(folders if folders is not None else [cache_folder()])):
        found = _in_folder(folder, identity)
        if found is not None:
            return found
    return None


def find_group(identities: Sequence[Identity]) -> list[Alignment] | None:
    """The stored alignments of a group that was refined together, or None.

    Of those that come with the package a larger group serves as well: everybody of it is aligned with everybody else.

    Raises:
        CheckpointError: as :func:`find_alignment`.
    """
    found = [find_alignment(identity) for identity in identities]
    whole = [known for known in found if known is not None]
    if len(whole) == len(identities):
        return whole
    for group in _groups(BUNDLED):
        told = [replace(one, settings={**one.settings, "group": group}) for one in identities]
        found = [_in_folder(BUNDLED, identity) for identity in told]
        whole = [known for known in found if known is not None]
        if len(whole) == len(identities):
            return whole
    return None


def known_group(folder: Path, pivot: Identity) -> dict[str, Alignment]:
    """The group in a folder that was refined together with this pivot on the same data and settings, by the models' weights.

    Raises:
        CheckpointError: the folder holds none, or only one that was made otherwise, naming how; or more than one.
    """
    made = [load_alignment(path) for path in sorted(folder.glob("*.safetensors"))]
    members = [
        one
        for one in made
        if "group" in one.settings and one.identity.pivot_weights == pivot.pivot_weights
    ]
    heads = [one for one in members if one.identity.model_weights == pivot.model_weights]
    if not heads:
        raise CheckpointError(
            f"{folder} holds no refined pair of {pivot.pivot} to join; make it with: fedmosaic align MODEL… --pivot {pivot.pivot} "
            f"--refine --out {folder}"
        )
    fitting = [one for one in heads if not _otherwise(one, pivot)]
    if not fitting:
        changed = "; ".join(_otherwise(heads[0], pivot))
        raise CheckpointError(
            f"{folder} was refined otherwise than this model is to be: {changed}. Use the same public data, size, seed and settings"
        )
    if len(fitting) > 1:
        raise CheckpointError(
            f"{folder} holds {len(fitting)} groups refined with {pivot.pivot}; put each into a folder of its own"
        )
    group = fitting[0].settings["group"]
    return {
        one.identity.model_weights: one
        for one in members
        if one.settings["group"] == group
        and not _otherwise(one, replace(pivot, model_weights=one.identity.model_weights))
    }


def _otherwise(made: Alignment, wanted: Identity) -> list[str]:
    """In what an alignment differs from what is wanted, whatever its group."""
    return replace(
        made.identity, settings={k: v for k, v in made.settings.items() if k != "group"}
    ).changes(wanted)


def _groups(folder: Path) -> list[list[str]]:
    """The groups of the refined alignments in a folder."""
    groups = [
        load_alignment(path).settings.get("group") for path in sorted(folder.glob("*.safetensors"))
    ]
    return [group for number, group in enumerate(groups) if group and group not in groups[:number]]


def _in_folder(folder: Path, identity: Identity) -> Alignment | None:
    # Names are for people: the same model under another path has the same key.
    for path in sorted(folder.glob(f"*--{identity.key}.safetensors")):
        return load_alignment(path, identity)
    return None


def load_alignment(path: Path, expected: Identity | None = None) -> Alignment:
    """Read one file.

    Raises:
        CheckpointError: missing, truncated, changed or of another kind; or an alignment of something else than
            ``expected``, naming what changed.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"alignment {path} cannot be read: {error.strerror}") from error
    try:
        tensors, content = unpack(data)
        if content["format"] != FORMAT:
            raise CheckpointError(
                f"alignment {path} has format {content['format']}, this version reads {FORMAT}"
            )
        stored, report = Identity(**content["identity"]), dict(content["report"])
        intact = content["digest"] == _digest(tensors)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is damaged or no alignment ({error}); delete it and align again"
        ) from error
    if not intact:
        raise CheckpointError(
            f"alignment {path} is damaged: its values are not those written; delete it and align again"
        )
    _check(tensors, f"alignment {path}")
    if expected is not None and stored.key != expected.key:
        changed = "; ".join(stored.changes(expected))
        raise CheckpointError(
            f"alignment {path} is out of date, changed since: {changed}. Align again"
        )
    return Alignment(tensors, stored, report)


def cache_folder() -> Path:
    """``alignments`` in the cache (see :func:`fedmosaic.files.cache_root`)."""
    return cache_root() / "alignments"


def plain_name(model: str) -> str:
    """A model's name without the folders of this machine: the last part of a path, others as they are."""
    return Path(model).name if Path(model).exists() or model.startswith(("/", "~", ".")) else model


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.@_]+", "-", name).strip("-.")[-60:] or "model"


def _as_json(value: Any) -> Any:
    """The value as it comes back from a file, so that both compare equal."""
    return json.loads(json.dumps(value))


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for key in sorted(tensors):
        value = tensors[key]
        digest.update(f"{key} {value.dtype} {list(value.shape)}".encode())
        digest.update(value.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _check(tensors: Mapping[str, Tensor], what: str) -> None:
    """Raise CheckpointError unless every site has a finite A [r, d_in] and B [d_out, r] of one rank."""
    ranks: dict[str, dict[str, int]] = {}
    for key, value in tensors.items():
        found = _KEY.fullmatch(key)
        if found is None or value.dim() != 2 or not value.is_floating_point():
            raise CheckpointError(
                f"{what} holds {key!r}, {value.dtype} {list(value.shape)}; expected block.<k>.<module>.A or .B"
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
