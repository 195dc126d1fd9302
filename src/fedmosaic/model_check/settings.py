"""Define the settings of a check: how models are loaded and adapted, as in a scenario."""

from __future__ import annotations

from fedmosaic.config import AdapterSettings, ModelSettings, Settings


class CheckSettings(Settings):
    """Set how the models of a check are loaded and adapted."""

    models: ModelSettings = ModelSettings()
    """Device, dtype and loading of base models."""

    adapter: AdapterSettings = AdapterSettings()
    """Rank and placement of the adapters.

    Where ``num_blocks`` is not set, models with fewer layers than the default are cut into as many
    blocks as they have layers.
    """
