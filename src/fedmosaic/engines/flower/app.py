"""Run a scenario inside an app of Flower, which ``flwr run`` starts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fedmosaic.engines.flower.client_app import make_client_app
from fedmosaic.engines.flower.environment import RAY_VARIABLES
from fedmosaic.engines.flower.grid_link import FASTEST, GridLink
from fedmosaic.engines.flower.simulated_clients import over_link
from fedmosaic.engines.flower.simulation import wait_for_nodes

if TYPE_CHECKING:
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid


def client_app() -> ClientApp:
    """Return the ``ClientApp``; Flower asks for it before it starts Ray."""
    os.environ.update(RAY_VARIABLES)
    return make_client_app()


@contextmanager
def over_grid(grid: Grid) -> Iterator[None]:
    """Let a run with the engine ``flower`` inside the block use a grid of Flower's simulation.

    Raises:
        LinkError: there are no nodes.
    """
    link = GridLink(grid, slowest=FASTEST)
    wait_for_nodes(link, 1)
    with over_link(link):
        yield
