"""Use a client as its views, inside one of its turns: whole models, and the choice between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fedmosaic.algorithms.base import BASE
from fedmosaic.data.example import Example
from fedmosaic.federation.prompts import prompt_features

if TYPE_CHECKING:
    from fedmosaic.federation.client import LocalClient


@contextmanager
def model_of(client: LocalClient, view: str) -> Iterator[Any]:
    """Yield the client's model as a view that does not route."""
    if view == BASE:
        yield client.backbone.model
        return
    with client.algorithm.view(client.context, view) as model:
        yield model


def base_to_compare(client: LocalClient, view: str) -> Any | None:
    """Return the base model where a view's options are read by the difference to it, else None."""
    differs = client.algorithm.compares_with_base(client.context, view)
    return client.backbone.model if differs else None


def features_of(client: LocalClient, examples: Sequence[Example]) -> Tensor:
    """Return the features of prompts by which the client's inputs are routed, [n, f]."""
    return prompt_features(client.runtime)(examples)


def routes_of(client: LocalClient, view: str, prompts: Tensor) -> list[str]:
    """Return the view that answers each input, from :func:`features_of` the inputs."""
    return client.algorithm.routes(client.context, view, prompts)
