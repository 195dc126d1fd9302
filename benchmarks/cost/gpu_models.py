"""Build the models that are timed on a card: random weights, in the shapes of known models."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import peft
import torch
import transformers
from torch import Tensor

from benchmarks.cost.training_steps import END, IMAGE, START, VIDEO, PixelProcessor, pictures
from fedmosaic.adapters import CoLoraConfig, build_pair
from fedmosaic.models.host import answer_on_host
from fedmosaic.models.images import ImageFeatures
from fedmosaic.models.quantised import held_tensors
from fedmosaic.models.roles import PROJECTIONS

KINDS = ("fedmosaic", "colora", "lora")
"""Adapters of this package: FedMosaic's pair, its pair with Co-LoRA on every layer, one LoRA."""

_LLAMA: dict[str, Any] = {"num_key_value_heads": 8, "intermediate_size": 8192, "vocab_size": 128256}
_TINY: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
}


@dataclass(frozen=True)
class Shape:
    """Hold the sizes of a model.

    Attributes:
        name: the model whose sizes they are.
        text: sizes of the language model.
        vision: sizes of the tower of Qwen2-VL; empty for a language model.
        sections: share of each rotary dimension in a head; of a vision-language model alone.
    """

    name: str
    text: dict[str, Any]
    vision: dict[str, Any]
    sections: tuple[int, int, int] = (16, 24, 24)


SHAPES = (
    Shape(
        "Llama-3.2-1B",
        {**_LLAMA, "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32},
        {},
    ),
    Shape(
        "Llama-3.2-3B",
        {**_LLAMA, "hidden_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 24},
        {},
    ),
    Shape(
        "Qwen2-VL-2B",
        {
            "hidden_size": 1536,
            "intermediate_size": 8960,
            "num_hidden_layers": 28,
            "num_attention_heads": 12,
            "num_key_value_heads": 2,
            "vocab_size": 151936,
        },
        {"depth": 32, "embed_dim": 1280, "num_heads": 16, "hidden_size": 1536},
    ),
)
TINY = (
    Shape("tiny Llama", _TINY, {}),
    Shape(
        "tiny Qwen2-VL",
        _TINY,
        {"depth": 2, "embed_dim": 32, "num_heads": 2, "hidden_size": 64},
        (2, 3, 3),
    ),
)


class Adapted:
    """Hold one base model and put adapters on it, without copies of its weights.

    Args:
        shape: sizes of the model.
        device: where it is.
        dtype: of its weights and activations.
        rank: of all adapters.
    """

    def __init__(self, shape: Shape, device: torch.device, dtype: torch.dtype, rank: int) -> None:
        self.shape, self.device, self.dtype, self.rank = shape, device, dtype, rank
        torch.manual_seed(0)
        kind, config = _config(shape)
        with torch.device(device):
            self.base = kind._from_config(config, dtype=dtype).eval().requires_grad_(False)
        if device.type != "cpu":
            answer_on_host(self.base)

    def with_adapter(self, kind: str) -> Any:
        """Return a model with adapters: of ``peft`` or of :data:`KINDS`."""
        base = copy.deepcopy(self.base, {id(held): held for held in held_tensors(self.base)})
        common: dict[str, Any] = {"r": self.rank, "lora_alpha": 2 * self.rank}
        if kind == "peft":
            lora = peft.LoraConfig(**common, target_modules=list(PROJECTIONS))
            return peft.get_peft_model(base, lora).train()
        if kind == "lora":
            return peft.get_peft_model(base, CoLoraConfig(**common, block_layers=[])).train()
        layers = "all" if kind == "colora" else None
        return build_pair(base, CoLoraConfig(**common, num_blocks=4, block_layers=layers)).train()

    def inputs(self, examples: int, tokens: int) -> Callable[[bool], dict[str, Any]]:
        """Return a function that gives the arguments of a forward pass.

        It takes whether features of images come from fedmosaic's cache; else the model gets pixels.

        Args:
            examples: examples of a batch, with one image each; at most four with images.
            tokens: tokens of an example beside its image's.
        """
        draw = torch.Generator().manual_seed(1)
        size = (examples, tokens)
        ids = torch.randint(END + 1, self.shape.text["vocab_size"], size, generator=draw)
        if not self.shape.vision:
            given = self._moved({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
            return lambda cached: given
        processor = PixelProcessor(transformers.Qwen2VLImageProcessorPil())
        features = ImageFeatures(self.shape.name, self.base, processor)
        images = pictures()[:examples]
        pixels = processor(images=[[image.load() for image in images]])
        grid = pixels["image_grid_thw"]
        count = int(grid[0].prod()) // 4
        marks = torch.full((examples, count + 2), IMAGE)
        marks[:, 0], marks[:, -1] = START, END
        ids = torch.cat([marks, ids], dim=1)
        given = self._moved(
            {
                "input_ids": ids,
                "attention_mask": torch.ones_like(ids),
                "mm_token_type_ids": (ids == IMAGE).long(),
                "image_grid_thw": grid,
            }
        )
        moved = self._moved({"pixel_values": pixels["pixel_values"].to(self.dtype)})
        units = [(image,) for image in images]

        def give(cached: bool) -> dict[str, Any]:
            if not cached:
                return {**given, **moved}
            return {**given, "mm_encoder_outputs": features.outputs(units, self.device)}

        return give

    def _moved(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.to(self.device) for name, tensor in tensors.items()}


def _config(shape: Shape) -> tuple[Any, Any]:
    ends = {"bos_token_id": None, "eos_token_id": None}
    if not shape.vision:
        config = transformers.LlamaConfig(**shape.text, **ends, tie_word_embeddings=True)
        return transformers.LlamaForCausalLM, config
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": list(shape.sections)}
    config = transformers.Qwen2VLConfig(
        text_config={**shape.text, **ends, "rope_parameters": rope},
        vision_config={**shape.vision, "mlp_ratio": 4},
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=START,
        vision_end_token_id=END,
        tie_word_embeddings=True,
    )
    return transformers.Qwen2VLForConditionalGeneration, config
