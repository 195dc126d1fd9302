"""Tell what clients begin with, and introduce them to the server before the first round.

Clients of one architecture and rank begin alike. So one of them shows for all what an update
contains, and a client that never takes part costs no turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fedmosaic.config import ClientSpec
from fedmosaic.federation.client import LocalClient
from fedmosaic.federation.instructions import Introduction
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.wire import Expected, Schema, schema_of


@dataclass(frozen=True)
class Beginning:
    """Hold what all clients of one architecture and rank have in common before they train.

    Attributes:
        schema: kinds and shapes of the tensors of an update, by name.
        state: tensors that the algorithm keeps for a client.
    """

    schema: Schema
    state: Mapping[str, Tensor]


def beginning(runtime: Runtime, spec: ClientSpec) -> Beginning:
    """Return what a client has in common with others; one client's first upload shows it."""

    def make() -> Beginning:
        client = LocalClient(runtime, spec)
        with client.turn() as context:
            schema = schema_of(client.algorithm.upload(context))
        return Beginning(schema, client.state)

    rank = spec.r or runtime.scenario.adapter.r
    found: Beginning = runtime.cached(
        f"beginning of {runtime.architecture(spec.model)} at rank {rank}", make
    )
    return found


def begin(client: LocalClient) -> None:
    """Give a client the state that all clients of its architecture and rank begin with."""
    found = beginning(client.runtime, client.spec).state
    client.state = {name: value.clone() for name, value in found.items()}


def introduction(runtime: Runtime, spec: ClientSpec) -> Introduction:
    """Return what the server must know of a client before the first round."""
    tasks = runtime.client_tasks(spec)
    return Introduction(
        architecture=runtime.architecture(spec.model),
        samples=sum(len(task.train) for task in tasks),
        families=[task.family or task.name for task in tasks],
        schema=beginning(runtime, spec).schema,
    )


def write_introductions(introductions: Mapping[str, Introduction]) -> dict[str, Any]:
    """Return introductions as plain values; clients of one architecture and rank share a schema."""
    schemas = {id(found.schema): found.schema for found in introductions.values()}
    places = {key: place for place, key in enumerate(schemas)}
    return {
        "schemas": list(schemas.values()),
        "introductions": {
            name: {**vars(found), "schema": places[id(found.schema)]}
            for name, found in introductions.items()
        },
    }


def read_introductions(content: Mapping[str, Any]) -> dict[str, Introduction]:
    """Return the introductions that :func:`write_introductions` wrote."""
    schemas = [
        {name: Expected(kind, tuple(shape)) for name, (kind, shape) in schema.items()}
        for schema in content["schemas"]
    ]
    return {
        name: Introduction(**{**found, "schema": schemas[found["schema"]]})
        for name, found in content["introductions"].items()
    }
