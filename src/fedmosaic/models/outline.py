"""Say what a model takes and how large it is, from its config, without its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmosaic.models.kinds import takes_images
from fedmosaic.models.load_errors import explained
from fedmosaic.models.loading import read_config
from fedmosaic.models.merged import base_of
from fedmosaic.models.names import ADAPTER_CONFIG, locate
from fedmosaic.models.options import ModelOptions


@dataclass(frozen=True)
class ModelOutline:
    """Hold what a config says about a model.

    Attributes:
        name: of the model.
        takes_images: whether it is a vision-language model.
        layers: layers of its language model; 0 where the config does not say it.
        parameters: about how many parameters its language model has; 0 where it cannot be known.
    """

    name: str
    takes_images: bool
    layers: int
    parameters: int


def outline(name: str) -> ModelOutline:
    """Return the outline of a model.

    Raises:
        ModelError: there is no such model, or it is of a kind that cannot be trained here.
    """
    source = locate(name)
    folder = source.folder
    if folder is not None and not source.gguf and (folder / ADAPTER_CONFIG).is_file():
        base = outline(base_of(name, folder))
        return ModelOutline(name, base.takes_images, base.layers, base.parameters)
    with explained(name, source):
        config = read_config(name, source, ModelOptions())
        text = config.get_text_config()
        layers = _number(text, "num_hidden_layers")
        return ModelOutline(name, takes_images(config), layers, _parameters(text, layers))


def is_path(name: str) -> bool:
    """Return whether a model's name is a folder or a file of this machine."""
    return Path(name).expanduser().exists()


def _parameters(config: Any, layers: int) -> int:
    """Estimate the parameters of a decoder: embeddings, attention and gated MLP."""
    width = _number(config, "hidden_size")
    inner = _number(config, "intermediate_size") or 4 * width
    return _number(config, "vocab_size") * width + layers * (4 * width**2 + 3 * width * inner)


def _number(config: Any, field: str) -> int:
    found = getattr(config, field, None)
    return found if isinstance(found, int) else 0
