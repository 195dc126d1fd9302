"""Build the models whose training steps are timed, with PEFT's LoRA or FedMosaic's adapters.

The language model is a Llama, 512 wide, with 8 layers. The vision-language model is a Qwen2-VL
whose language model has these sizes and whose tower has 0.56 of its weights (in Qwen2-VL-2B 0.51):
384 wide, 6 layers, patches of 14 pixels, four of which make one token.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import peft
import torch
import transformers
from torch import Tensor

from fedmosaic.adapters import CoLoraConfig, build_pair
from fedmosaic.adapters.frozen_products import pack_frozen_weights
from fedmosaic.data import Image
from fedmosaic.models.images import ImageFeatures
from fedmosaic.models.roles import PROJECTIONS

RANK, BATCH, TOKENS, VOCABULARY = 64, 4, 192, 2048
SIDE, TEXT = 224, 32  # pixels of an image; tokens of an example beside its image's
IMAGE, VIDEO, START, END = range(4)  # special tokens of Qwen2-VL
SIZES: dict[str, Any] = {
    "hidden_size": 512,
    "intermediate_size": 1376,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "vocab_size": VOCABULARY,
    "bos_token_id": None,
    "eos_token_id": None,
}


@dataclass(frozen=True)
class TrainingStep:
    """Train a model by one step at each call.

    Attributes:
        model: the adapted model.
        optimizer: fused AdamW over its trained parameters.
        inputs: returns the arguments of a forward pass; its time counts.
    """

    model: Any
    optimizer: torch.optim.Optimizer
    inputs: Callable[[], dict[str, Any]]

    def __call__(self) -> tuple[float, float]:
        """Do one step and return its seconds: of wall time and of processor time."""
        wall, processor = time.perf_counter(), time.process_time()
        loss = self.model(**self.inputs(), use_cache=False).loss
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return time.perf_counter() - wall, time.process_time() - processor


def language_step(kind: str) -> TrainingStep:
    """Return the step of the language model.

    Args:
        kind: the adapter: ``lora``, ``fedmosaic``, ``colora``, or ``packed``, which is
            ``fedmosaic`` with packed weights.
    """
    torch.manual_seed(0)
    base = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES))
    ids = random_ids(TOKENS)
    return _step(base, kind, lambda: {"input_ids": ids, "labels": ids})


def vision_step(kind: str, cached: bool) -> TrainingStep:
    """Return the step of the vision-language model with an adapter: ``lora`` or ``fedmosaic``.

    Args:
        kind: the adapter.
        cached: read the features of the images from fedmosaic's cache; otherwise the model gets
            their pixels and runs its tower.
    """
    torch.manual_seed(0)
    base = transformers.Qwen2VLForConditionalGeneration(vision_config())
    processor = PixelProcessor(transformers.Qwen2VLImageProcessorPil())
    features = ImageFeatures("benchmark", base, processor)
    images = pictures()
    pixels = processor(images=[[image.load() for image in images]])
    grid = pixels["image_grid_thw"]
    ids = random_ids(TEXT + 2 + int(grid[0].prod()) // 4)
    count = ids.shape[1] - TEXT
    ids[:, :count] = IMAGE
    ids[:, 0], ids[:, count - 1] = START, END
    given = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": ids.masked_fill(ids <= END, -100),
        "mm_token_type_ids": (ids == IMAGE).long(),
        "image_grid_thw": grid,
    }
    units = [(image,) for image in images]

    def inputs() -> dict[str, Any]:
        if cached:
            return {**given, "mm_encoder_outputs": features.outputs(units, ids.device)}
        return {**given, "pixel_values": pixels["pixel_values"]}

    return _step(base, kind, inputs)


def vision_config() -> Any:
    """Return the configuration of the vision-language model."""
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [8, 12, 12]}
    return transformers.Qwen2VLConfig(
        text_config={**SIZES, "rope_parameters": rope},
        vision_config={
            "depth": 6,
            "embed_dim": 384,
            "num_heads": 6,
            "mlp_ratio": 4,
            "hidden_size": SIZES["hidden_size"],
        },
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=START,
        vision_end_token_id=END,
    )


class PixelProcessor:
    """Stand in for a processor of which only the part for images is needed."""

    image_token = "<image>"

    def __init__(self, image_processor: Any) -> None:
        self.image_processor = image_processor

    def __call__(self, images: Any, **_: Any) -> Any:
        """Return pixels and grids of the images of the only text."""
        return self.image_processor(images[0], return_tensors="pt")


@cache
def pictures() -> list[Image]:
    """Return the images of a batch, of random pixels."""
    draw = np.random.default_rng(0)
    return [Image(draw.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)) for _ in range(BATCH)]


def random_ids(tokens: int) -> Tensor:
    """Return a batch of tokens that are none of the special ones."""
    draw = torch.Generator().manual_seed(1)
    return torch.randint(END + 1, VOCABULARY, (BATCH, tokens), generator=draw)


def _step(base: Any, kind: str, inputs: Callable[[], dict[str, Any]]) -> TrainingStep:
    """Put adapters on a base model and return its step."""
    model: Any
    if kind == "lora":
        lora = peft.LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=list(PROJECTIONS))
        model = peft.get_peft_model(base, lora)
    else:
        block_layers = "all" if kind == "colora" else None
        colora = CoLoraConfig(r=RANK, lora_alpha=2 * RANK, num_blocks=4, block_layers=block_layers)
        model = build_pair(base, colora)
        if kind == "packed":
            pack_frozen_weights(model)
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return TrainingStep(model, torch.optim.AdamW(trained, lr=1e-4, fused=True), inputs)
