"""Identify an alignment by what it depends on: weights, public data, settings and placement."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fedmosaic.adapters.placement import Placement
from fedmosaic.config import AlignmentSettings
from fedmosaic.data.example import Example, fingerprint
from fedmosaic.models.backbone import Backbone


@dataclass(frozen=True)
class Identity:
    """Hold what an alignment depends on: with any change it is another alignment.

    Attributes:
        model: name of the model, for people; it does not count.
        pivot: name of the pivot, for people; it does not count.
        model_weights: :attr:`Backbone.fingerprint` of the model.
        pivot_weights: :attr:`Backbone.fingerprint` of the pivot.
        public: fingerprint of the public examples.
        settings: settings and placement, in values that JSON can hold (:func:`identity_settings`).
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
        """Return the identity of the alignment of ``model`` to ``pivot`` on these examples."""
        names = plain_name(model.name), plain_name(pivot.name)
        return cls(
            *names, model.fingerprint, pivot.fingerprint, fingerprint(examples), as_json(settings)
        )

    @property
    def key(self) -> str:
        """Return 16 hex digits over all that counts; they are part of the file's name."""
        return hashlib.blake2b(
            json.dumps(self._parts(), sort_keys=True).encode(), digest_size=8
        ).hexdigest()

    @property
    def file_name(self) -> str:
        """Return ``<model>--<pivot>--<key>.safetensors``."""
        return f"{_slug(self.model)}--{_slug(self.pivot)}--{self.key}.safetensors"

    def _parts(self) -> dict[str, Any]:
        """Return all that counts, under the names that messages use."""
        return {
            "the model's weights": self.model_weights,
            "the pivot's weights": self.pivot_weights,
            "the public data": self.public,
            **{f"the setting {name!r}": value for name, value in self.settings.items()},
        }

    def changes(self, other: Identity) -> list[str]:
        """List the differences of ``other``, for messages."""
        before, after = self._parts(), other._parts()
        found = []
        for name in {**before, **after}:
            if before.get(name) != after.get(name):
                values = (
                    f" ({before.get(name)} -> {after.get(name)})"
                    if name.startswith("the setting")
                    else ""
                )
                found.append(name + values)
        return found


def identity_settings(settings: AlignmentSettings, placement: Placement) -> dict[str, Any]:
    """Return the settings and the placement on which A and B depend.

    Settings that name models, data or folders are left out, because an identity holds these by
    their content.
    """
    counted = settings.model_dump(
        mode="json", exclude={"size": True, "pivot": True, "refine": {"join"}}
    )
    placed = asdict(placement)
    if not placement.by_block:  # which alignments made before it existed do not have
        del placed["by_block"]
    found: dict[str, Any] = as_json({**counted, **placed})
    return found


def plain_name(model: str) -> str:
    """Return a model's name without the folders of this machine: the last part of a path."""
    return Path(model).name if Path(model).exists() or model.startswith(("/", "~", ".")) else model


def as_json(value: Any) -> Any:
    """Return a value as it is read back from a JSON file, so that both compare equal."""
    return json.loads(json.dumps(value))


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.@_]+", "-", name).strip("-.")[-60:] or "model"
