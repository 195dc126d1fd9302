"""Builders that vision-language families share: towers, models and processors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    PreTrainedConfig,
    PreTrainedModel,
    ProcessorMixin,
    SiglipVisionConfig,
)

from tests.families.family import Tokenizer, text_config
from tests.families.video import without_video

SIDE, PATCH = 42, 14
SQUARE = {"height": SIDE, "width": SIDE}
TOWER = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": PATCH,
}
GRID = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE], [3 * SIDE, SIDE]]


def clip(**changes: object) -> CLIPVisionConfig:
    return CLIPVisionConfig(**{**TOWER, **changes})


def siglip(**changes: object) -> SiglipVisionConfig:
    return SiglipVisionConfig(**{**TOWER, "vision_use_head": False, **changes})


def model(
    kind: type[PreTrainedModel],
    config: type[PreTrainedConfig],
    text: type[PreTrainedConfig],
    tower: Callable[[], PreTrainedConfig],
    image: str,
    text_changes: dict[str, object] | None = None,
    **settings: object,
) -> Callable[[Tokenizer], PreTrainedModel]:
    """Return the builder of a model from its tower's and its language model's configurations.

    A setting may be a function of the tokenizer.
    """

    def build(tokenizer: Tokenizer) -> PreTrainedModel:
        def resolve(given: dict[str, object] | None) -> dict[str, object]:
            items = (given or {}).items()
            return {key: value(tokenizer) if callable(value) else value for key, value in items}

        return kind(
            config(
                text_config=text_config(text, tokenizer, **resolve(text_changes)),
                vision_config=tower(),
                image_token_id=tokenizer.convert_tokens_to_ids(image),
                **resolve(settings),
            )
        )

    return build


def token(name: str) -> Callable[[Tokenizer], int]:
    """Return a setting that is the id of the token ``name``."""
    return lambda tokenizer: tokenizer.convert_tokens_to_ids(name)


def processor(
    kind: type[ProcessorMixin], images: object, video: bool = False, **settings: object
) -> Callable[[Tokenizer], ProcessorMixin]:
    """Return the builder of a processor from its image processor."""

    def build(tokenizer: Tokenizer) -> ProcessorMixin:
        parts = {"image_processor": images(), "tokenizer": tokenizer, **settings}
        return without_video(kind, **parts) if video else kind(**parts)

    return build


def clip_images(**changes: object) -> Callable[[], CLIPImageProcessorPil]:
    return partial(CLIPImageProcessorPil, size={"shortest_edge": SIDE}, crop_size=SQUARE, **changes)
