"""Tell which kind of model a config describes, and refuse the kinds that cannot be trained here."""

from __future__ import annotations

from typing import Any

from fedmosaic.errors import ModelError
from fedmosaic.models.load_errors import remote_code
from fedmosaic.models.names import Source

_TAKEN = "use a causal language model or an image-text model"


def check_model_type(name: str, source: Source, config: dict[str, Any], trusted: bool) -> None:
    """Raise ModelError if transformers does not know a model's type and may not run its code.

    Args:
        name: of the model.
        source: where it is.
        config: the content of its ``config.json``.
        trusted: whether code that comes with the model may be run.
    """
    from transformers import __version__
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    kind, own_code = config.get("model_type"), "AutoConfig" in (config.get("auto_map") or {})
    if kind in CONFIG_MAPPING_NAMES or (own_code and trusted):
        return
    if own_code:
        raise ModelError(f"model {name!r} {remote_code(source)}")
    if not kind:
        raise ModelError(
            f"model {name!r}: its config.json has no model_type, so it is no model of "
            f"transformers; {_TAKEN} in the format of transformers"
        )
    raise ModelError(
        f"model {name!r} is of the type {kind!r}, which transformers {__version__} does not know: "
        f"install a newer one (pip install -U transformers), or {_TAKEN} that it knows"
    )


def takes_images(config: Any) -> bool:
    """Return whether a config describes an image-text model."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    if type(config) not in AutoModelForImageTextToText._model_mapping:
        return getattr(config, "vision_config", None) is not None and _has_own_code(config)
    vision = getattr(config, "vision_config", None)
    return vision is not None or type(config) not in AutoModelForCausalLM._model_mapping


def check_kind(name: str, config: Any) -> None:
    """Raise ModelError if a model is no decoder-only language model, with or without images."""
    import transformers
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.models.auto import modeling_auto as auto

    if _has_own_code(config):
        return
    described = f"model {name!r} is of the type {config.model_type!r}"
    if config.is_encoder_decoder or getattr(config.get_text_config(), "is_encoder_decoder", False):
        raise ModelError(f"{described}, an encoder-decoder model: {_TAKEN}")
    mappings = (AutoModelForCausalLM._model_mapping, AutoModelForImageTextToText._model_mapping)
    known = _class_names(
        auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    )
    classes = [str(one) for one in config.architectures or []]
    masked = config.model_type in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(
        config, "is_decoder", True
    )
    if masked or all(type(config) not in mapping for mapping in mappings):
        raise ModelError(
            f"{described}{_in_words(classes)}, which does not continue a text: {_TAKEN}"
        )
    if classes and classes[0] not in known and hasattr(transformers, classes[0]):
        raise ModelError(
            f"{described}, but was saved as {classes[0]}, which has no language-model head (an "
            f"embedding model, a classifier or a part of a model): {_TAKEN}"
        )


def _in_words(classes: list[str]) -> str:
    return f" ({classes[0]})" if classes else ""


def _has_own_code(config: Any) -> bool:
    return not type(config).__module__.startswith("transformers.models.")


def _class_names(*mappings: dict[str, Any]) -> set[str]:
    found: set[str] = set()
    for mapping in mappings:
        for value in mapping.values():
            found |= {value} if isinstance(value, str) else set(value)
    return found
