"""Load the processor of a vision-language model: tokens and pixels as its publisher wants them."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import sys
from collections.abc import Callable
from typing import Any

from fedmosaic.errors import ModelError

PIXTRAL = "transformers.models.pixtral"


def load_processor(source: str, config: Any, tokenizer: Any, common: dict[str, Any]) -> Any:
    """Return the processor of a vision-language model.

    Image processors run on PIL, which gives the same pixels on every machine and needs no
    torchvision. Families that have none on PIL use torchvision. The parts for videos and sound are
    left out: they are not used, and that for videos cannot be loaded without torchvision.

    Args:
        source: Folder or Hugging Face id.
        config: The config of the model.
        tokenizer: Its tokenizer.
        common: Further arguments of ``from_pretrained``.

    Raises:
        ModelError: the family has no processor that can be used.
    """
    from transformers import AutoProcessor, ProcessorMixin

    settings, _ = ProcessorMixin.get_processor_dict(source, **common)
    if common.get("trust_remote_code") and "auto_map" in settings:
        return AutoProcessor.from_pretrained(source, **common)
    kind = _processor_class(settings, config)
    parts = [
        tokenizer
        if name == "tokenizer"
        else _image_processor(source, config, common)
        if name == "image_processor"
        else absent_part()
        for name in kind.get_attributes()
    ]
    _fill_llava(kind, settings, config)
    return _unchecked(kind).from_args_and_dict(parts, settings)


def _processor_class(settings: dict[str, Any], config: Any) -> Any:
    """Return the processor class that the folder or the model type names."""
    import transformers
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    name = settings.get("processor_class") or PROCESSOR_MAPPING_NAMES.get(config.model_type)
    if isinstance(name, tuple):
        name = name[-1]
    if not name or not hasattr(transformers, name):
        raise ModelError(
            f"models of type {config.model_type!r} have no processor in this version of "
            "Transformers: use another model"
        )
    if name != "PixtralProcessor" or has_torchvision():
        return getattr(transformers, name)
    # The module of this processor takes one function from the module of its torchvision image
    # processor; the same function is in the module of its PIL image processor.
    pil = importlib.import_module(f"{PIXTRAL}.image_processing_pil_pixtral")
    sys.modules.setdefault(f"{PIXTRAL}.image_processing_pixtral", pil)
    return importlib.import_module(f"{PIXTRAL}.processing_pixtral").PixtralProcessor


def _image_processor(source: str, config: Any, common: dict[str, Any]) -> Any:
    from transformers import AutoImageProcessor

    try:
        return AutoImageProcessor.from_pretrained(source, backend="pil", **common)
    except (ValueError, ImportError) as error:
        if has_torchvision():
            return AutoImageProcessor.from_pretrained(source, **common)
        raise ModelError(
            f"the image processor of models of type {config.model_type!r} needs torchvision: "
            "pip install -e '.[vision]'"
        ) from error


def has_torchvision() -> bool:
    """Return whether torchvision is installed.

    Raises:
        ModelError: it is, but cannot be imported, which breaks Transformers.
    """
    if importlib.util.find_spec("torchvision") is None:
        return False
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError, OSError) as error:
        raise ModelError(
            f"torchvision is installed but does not fit this torch ({error}): install the version "
            "of the same release, or remove it (pip uninstall torchvision)"
        ) from error
    return True


def absent_part() -> Any:
    """Return what stands for a part of a processor that is not used: for videos or sound."""
    from transformers.utils import PushToHubMixin

    class Absent(PushToHubMixin):  # type: ignore[misc]
        """Stand for a part of a processor that is never used: for videos or sound."""

        model_input_names = ()
        _auto_class = None
        num_frames = fps = sampling_rate = None
        feature_size = audio_seq_length = 0

        def to_dict(self) -> dict[str, Any]:
            """Return no settings."""
            return {}

    return Absent()


class LastImages:
    """Process no images a second time in succession.

    The prompt and the options of a question are texts with the same images.

    Args:
        process: The method ``_process_images`` of a processor.
    """

    def __init__(self, process: Callable[..., tuple[Any, list[str]]]) -> None:
        self.process = process
        self._asked: tuple[list[Any], dict[str, Any]] = ([], {})
        self._given: tuple[Any, list[str]] = ({}, [])

    def __call__(self, images: Any, **settings: Any) -> tuple[Any, list[str]]:
        """Return pixels and replacements of placeholders; copies, which a caller may change."""
        from transformers.image_utils import make_flat_list_of_images

        pictures = list(make_flat_list_of_images(images))
        before, same_settings = self._asked[0], settings == self._asked[1]
        if not same_settings or [*map(id, pictures)] != [*map(id, before)]:
            self._given = self.process(images, **settings)
            self._asked = (pictures, settings)
        processed, written = self._given
        return copy.copy(processed), list(written)


def _unchecked(kind: Any) -> Any:
    """Return a subclass of a processor that takes any object as a part.

    The classes that a processor checks for videos cannot be imported without torchvision.
    """
    skip = {"check_argument_for_proper_class": lambda self, name, argument: None}
    return type(kind.__name__, (kind,), {**skip, "__module__": kind.__module__})


def _fill_llava(kind: Any, settings: dict[str, Any], config: Any) -> None:
    """Take what the settings of a LLaVA processor leave out from the config of the model.

    These are the size of a patch, the selection of features, and whether the tower has a class
    token (CLIP has one, SigLIP has none).
    """
    if not kind.__name__.startswith("Llava") or settings.get("patch_size") is not None:
        return
    vision = config.vision_config
    settings["patch_size"] = vision.patch_size
    settings["vision_feature_select_strategy"] = config.vision_feature_select_strategy
    settings["num_additional_image_tokens"] = int(vision.model_type == "clip_vision_model")
