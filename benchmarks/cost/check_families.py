"""Build the families of the device check from their configurations, with one batch for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor

from benchmarks.cost.training_steps import (
    END,
    IMAGE,
    SIDE,
    SIZES,
    START,
    PixelProcessor,
    pictures,
    random_ids,
    vision_config,
)
from fedmosaic.models.images import ImageFeatures

TEXT = 48  # tokens of an example beside its image's
# Wide enough that every layer matters to the loss.
DRAWN = {"initializer_range": 0.04}


@dataclass(frozen=True)
class CheckedFamily:
    """Hold what makes a family.

    Attributes:
        name: name of the family.
        loader: the auto class that loads its folder.
        config: returns its configuration.
        processor: returns its image processor; None for a language model.
        types: name of the argument that says which tokens are an image's.
        given: names of the image processor's outputs that the forward pass takes beside features.
    """

    name: str
    loader: Any
    config: Callable[[], Any]
    processor: Callable[[], Any] | None = None
    types: str = ""
    given: tuple[str, ...] = ()

    def build(self) -> Any:
        """Return the model with random weights, in float32 on the CPU."""
        return self.loader.from_config(self.config())

    def batch(self, model: Any, device: torch.device) -> tuple[dict[str, Any], Tensor]:
        """Return the arguments of a forward pass and the labels, on a device."""
        if self.processor is None:
            ids = random_ids(TEXT)
            inputs: dict[str, Any] = {"input_ids": ids}
        else:
            ids, inputs = self._with_images(model, PixelProcessor(self.processor()))
        inputs["attention_mask"] = torch.ones_like(ids)
        labels = ids.masked_fill(ids <= END, -100).to(device)
        moved = {
            name: value.to(device) if isinstance(value, Tensor) else value
            for name, value in inputs.items()
        }
        return moved, labels

    def _with_images(self, model: Any, processor: PixelProcessor) -> tuple[Tensor, dict[str, Any]]:
        """Return ids and inputs of texts that begin with an image each."""
        features = ImageFeatures(self.name, model, processor)
        units = [(image,) for image in pictures()]
        device = model.get_input_embeddings().weight.device
        found = features.outputs(units, device)
        count = sum(len(one) for one in found["image"].pooler_output) // len(units)
        ids = random_ids(count + 2 + TEXT)
        ids[:, 0], ids[:, 1 : count + 1], ids[:, count + 1] = START, IMAGE, END
        pixels = processor(images=[[image.load() for image in pictures()]])
        given = {name: pixels[name] for name in self.given}
        types = {self.types: (ids == IMAGE).long()}
        return ids, {"input_ids": ids, "mm_encoder_outputs": found, **given, **types}


def llama() -> Any:
    """Return the configuration of a Llama."""
    return transformers.LlamaConfig(**SIZES, **DRAWN)


def qwen2_vl() -> Any:
    """Return the configuration of a Qwen2-VL."""
    config = vision_config()
    config.text_config.initializer_range = config.vision_config.initializer_range = 0.04
    config.initializer_range = 0.04
    return config


def gemma3() -> Any:
    """Return the configuration of a Gemma 3 with a SigLIP tower."""
    return transformers.Gemma3Config(
        text_config={**SIZES, **DRAWN, "head_dim": 64, "sliding_window": 64},
        vision_config={
            "hidden_size": 256,
            "intermediate_size": 1024,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "image_size": SIDE,
            "patch_size": 14,
        },
        mm_tokens_per_image=64,
        image_token_index=IMAGE,
        boi_token_index=START,
        eoi_token_index=END,
        **DRAWN,
    )


def gemma3_images() -> Any:
    """Return Gemma 3's image processor for the tower's size."""
    return transformers.Gemma3ImageProcessorPil(size={"height": SIDE, "width": SIDE})


_VISION = transformers.AutoModelForImageTextToText
FAMILIES = {
    family.name: family
    for family in (
        CheckedFamily("llama", transformers.AutoModelForCausalLM, llama),
        CheckedFamily(
            "qwen2_vl",
            _VISION,
            qwen2_vl,
            transformers.Qwen2VLImageProcessorPil,
            "mm_token_type_ids",
            ("image_grid_thw",),
        ),
        CheckedFamily("gemma3", _VISION, gemma3, gemma3_images, "token_type_ids"),
    )
}
