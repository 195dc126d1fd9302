"""Say what a model is: its parts, its parameters and the memory of its weights."""

from __future__ import annotations

from fedmosaic.adapters.coverage import parameter_sizes
from fedmosaic.model_check.report import ModelFacts
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.linear import widths

# NF4 holds a number of 32 bits for each 64 weights of 4 bits.
_BYTES_4BIT = 0.5 + 4 / 64


def facts_of(backbone: Backbone) -> ModelFacts:
    """Return what a model is. The memory is that of its weights, without activations."""
    total = sum(dict(parameter_sizes(backbone.model)).values())
    modules = backbone.structure.decoder.modules()
    linear = sum(w[0] * w[1] for module in modules if (w := widths(module)) is not None)
    rest = 2 * (total - linear)
    memory = {
        "float32": 4 * total,
        "bfloat16 or float16": 2 * total,
        "8bit": rest + linear,
        "4bit": rest + round(linear * _BYTES_4BIT),
    }
    return ModelFacts(_architecture(backbone), total, memory, backbone.num_layers)


def _architecture(backbone: Backbone) -> str:
    """Return the type of a model and of its parts."""
    config = backbone.model.config
    inner = [backbone.text_config, getattr(config, "vision_config", None)]
    parts = [str(getattr(one, "model_type", "")) for one in inner if one is not config]
    named = ", ".join(part for part in parts if part)
    return f"{config.model_type} ({named})" if named else str(config.model_type)
