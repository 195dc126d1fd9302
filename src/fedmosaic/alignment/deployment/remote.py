"""Get the alignment of a model whose pivot, and the other models, are at other sites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fedmosaic.adapters.placement import Placement
from fedmosaic.alignment.deployment.publish import align_to_published
from fedmosaic.alignment.deployment.published import PublishedPivot
from fedmosaic.alignment.group_store import find_group
from fedmosaic.alignment.identity import Identity, as_json, identity_settings, plain_name
from fedmosaic.alignment.store import Alignment, find_alignment
from fedmosaic.config import AlignmentSettings
from fedmosaic.data.example import Example, fingerprint
from fedmosaic.errors import ConfigError
from fedmosaic.models.backbone import Backbone


class Aligner(Protocol):
    """Make or find the alignment of one model, without the other models."""

    def __call__(
        self,
        model: Backbone,
        examples: Sequence[Example],
        settings: AlignmentSettings,
        placement: Placement,
    ) -> Alignment:
        """Return A and B of the model that mean what the pivot's mean."""


@dataclass(frozen=True)
class PublishedAligner:
    """Align a model to what the pivot published.

    Attributes:
        published: what the pivot published.
    """

    published: PublishedPivot

    def __call__(
        self,
        model: Backbone,
        examples: Sequence[Example],
        settings: AlignmentSettings,
        placement: Placement,
    ) -> Alignment:
        """Return A and B of the model.

        Raises:
            DataError: other public examples than the pivot's.
            ConfigError: other settings than the pivot's.
            UpdateError: the published numbers do not fit their own settings.
        """
        return align_to_published(model, self.published, examples, settings, placement)


@dataclass(frozen=True)
class StoredAligner:
    """Find the stored alignment of a model: in the package, or in the cache.

    Attributes:
        pivot: name of the pivot.
        weights: fingerprints of all models of the federation and the pivot, by name.
    """

    pivot: str
    weights: Mapping[str, str]

    def __call__(
        self,
        model: Backbone,
        examples: Sequence[Example],
        settings: AlignmentSettings,
        placement: Placement,
    ) -> Alignment:
        """Return A and B of the model.

        Raises:
            ConfigError: there is no such alignment.
        """
        public = fingerprint(examples)
        found = self.find(model.fingerprint, public, settings, placement)
        if found is None:
            raise ConfigError(
                f"alignment: the package holds none of model {plain_name(model.name)} to "
                f"{self.pivot} on this public data with these settings, and the pivot published "
                "nothing"
            )
        return found

    def find(
        self, weights: str, public: str, settings: AlignmentSettings, placement: Placement
    ) -> Alignment | None:
        """Return the stored alignment of the model with this fingerprint, or None.

        Args:
            weights: fingerprint of the model.
            public: fingerprint of the public examples.
            settings: how the models are aligned.
            placement: rank, blocks and modules of the shared adapters.
        """
        counted = identity_settings(settings, placement)
        if settings.refine is None:
            return find_alignment(self._identity(weights, public, counted))
        pivot = self.weights[self.pivot]
        members = sorted({pivot, *self.weights.values()})
        together = [pivot, *(each for each in members if each != pivot)]
        counted = {**counted, "group": members}
        group = find_group([self._identity(each, public, counted) for each in together])
        return group[together.index(weights)] if group and weights in together else None

    def _identity(self, weights: str, public: str, counted: Mapping[str, Any]) -> Identity:
        names = {found: name for name, found in self.weights.items()}
        pivot = self.weights[self.pivot]
        name = names.get(weights, weights)
        return Identity(name, self.pivot, weights, pivot, public, as_json(counted))
