"""Answer for the clients of the scenario."""

from fedmosaic.engines.flower.app import client_app

app = client_app()
