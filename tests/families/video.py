"""Make and load processors without their video part, which needs torchvision."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import transformers
from transformers import AutoProcessor, ProcessorMixin
from transformers.utils import PushToHubMixin, is_torchvision_available

PIXTRAL = "transformers.models.pixtral"


class NoVideo(PushToHubMixin):
    """A video processor that processes nothing."""

    model_input_names = ()
    num_frames = fps = None
    _auto_class = None

    def to_dict(self) -> dict[str, object]:
        return {}


def unchecked(kind: type[ProcessorMixin]) -> type[ProcessorMixin]:
    """Return a subclass of the same name that takes any class of video processor.

    The class that ``kind`` looks for cannot be imported without torchvision.
    """
    look = {"check_argument_for_proper_class": lambda self, name, argument: None}
    return type(kind.__name__, (kind,), look)


def without_video(kind: type[ProcessorMixin], **parts: object) -> ProcessorMixin:
    """Return a processor whose video part is a stand-in."""
    return unchecked(kind)(video_processor=NoVideo(), **parts)


def processor_class(name: str) -> type[ProcessorMixin]:
    """Return a processor class by its name.

    The module of Pixtral's takes one function from the module of its torchvision image processor;
    the same function is in the module of its PIL image processor.
    """
    if name != "PixtralProcessor":
        return getattr(transformers, name)
    if not is_torchvision_available():
        pil = importlib.import_module(f"{PIXTRAL}.image_processing_pil_pixtral")
        sys.modules.setdefault(f"{PIXTRAL}.image_processing_pixtral", pil)
    return importlib.import_module(f"{PIXTRAL}.processing_pixtral").PixtralProcessor


def load_processor(folder: Path) -> ProcessorMixin:
    """Load a folder's processor; without torchvision its video part is a stand-in."""
    if is_torchvision_available():
        return AutoProcessor.from_pretrained(folder)
    settings, _ = ProcessorMixin.get_processor_dict(folder)
    kind = processor_class(settings["processor_class"])
    attributes = kind.get_attributes()
    rest = classmethod(lambda cls: [name for name in attributes if name != "video_processor"])
    loader = type(kind.__name__, (kind,), {"get_attributes": rest})
    parts = loader._get_arguments_from_pretrained(folder, settings)
    if "video_processor" in attributes:
        parts.insert(attributes.index("video_processor"), NoVideo())
    return unchecked(kind).from_args_and_dict(parts, settings)
