"""Ask models whether they take items."""

from __future__ import annotations

from fedmosaic.config import ModelSettings
from fedmosaic.data.reading.files import ScannedItem
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.item_check import ItemCheck
from fedmosaic.models.loading import ModelOptions


class ModelTaker:
    """Decide for a model whether it takes an item.

    Args:
        backbone: the model.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.check = ItemCheck(backbone)

    def __call__(self, item: ScannedItem) -> int | None:
        """Return about how many tokens the item has; None if it is not known.

        Raises:
            FedMosaicError: the model does not take it.
        """
        assert item.example is not None
        self.check.require(item.example)
        return self.check.count_tokens(item.example)


def load_taker(name: str, settings: ModelSettings) -> ModelTaker:
    """Load a model to ask it.

    Raises:
        FedMosaicError: it cannot be loaded.
    """
    options = ModelOptions(
        dtype=settings.dtype, device="cpu", trust_remote_code=settings.trust_remote_code
    )
    return ModelTaker(Backbone.load(name, options))
