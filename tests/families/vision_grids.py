"""Families whose pictures keep their shape: Qwen's, Mistral's and GLM's grids of patches."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    MistralConfig,
    PixtralImageProcessorPil,
    PixtralVisionConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    Qwen2VLProcessor,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
)
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import (
    Qwen2_5_VLTextConfig,
    Qwen2_5_VLVisionConfig,
)
from transformers.models.qwen2_vl.configuration_qwen2_vl import (
    Qwen2VLTextConfig,
    Qwen2VLVisionConfig,
)
from transformers.models.qwen3_5.configuration_qwen3_5 import (
    Qwen3_5TextConfig,
    Qwen3_5VisionConfig,
)
from transformers.models.qwen3_vl.configuration_qwen3_vl import (
    Qwen3VLTextConfig,
    Qwen3VLVisionConfig,
)

from tests.families import vocabulary
from tests.families.family import Family, Tokenizer, template
from tests.families.video import processor_class
from tests.families.vision_parts import model, processor, token

SMALL_PATCH = 7
TURNING = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
QWEN_TOWER = {"depth": 3, "num_heads": 2, "patch_size": SMALL_PATCH, "intermediate_size": 40}
TOWERS: dict[type[PreTrainedConfig], dict[str, object]] = {
    Qwen2VLVisionConfig: {"embed_dim": 16, "hidden_size": 32, "mlp_ratio": 2},
    Qwen2_5_VLVisionConfig: {
        "hidden_size": 16,
        "out_hidden_size": 32,
        "window_size": 4 * SMALL_PATCH,
        "fullatt_block_indexes": [1],
    },
    Qwen3VLVisionConfig: {
        "hidden_size": 16,
        "out_hidden_size": 32,
        "num_position_embeddings": 36,
        "deepstack_visual_indexes": [0, 1],
    },
    Qwen3_5VisionConfig: {
        "hidden_size": 16,
        "out_hidden_size": 32,
        "num_position_embeddings": 36,
    },
}
VISION_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
qwen_tokens = partial(vocabulary.qwen, *VISION_TOKENS)
THINKING = ("<think>", "</think>")
# A picture becomes 4 to 36 patches, which are merged four to one.
PIXELS = {"shortest_edge": (4 * SMALL_PATCH) ** 2, "longest_edge": (12 * SMALL_PATCH) ** 2}
MISTRAL_TOKENS = ("[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]")
IMAGE_TOKENS = ("[IMG]", "[IMG_BREAK]", "[IMG_END]")
mistral_tokens = partial(
    vocabulary.llama3, *MISTRAL_TOKENS, *IMAGE_TOKENS, "<pad>", bos="<s>", eos="</s>",
    pad_token="<pad>",
)  # fmt: skip


def qwen_model(
    kind: type[PreTrainedModel],
    config: type[PreTrainedConfig],
    text: type[PreTrainedConfig],
    tower: type[PreTrainedConfig],
    **text_changes: object,
) -> Callable[[Tokenizer], PreTrainedModel]:
    """Return the builder of a Qwen-VL model."""
    return model(
        kind,
        config,
        text,
        partial(tower, **QWEN_TOWER, **TOWERS[tower]),
        image="<|image_pad|>",
        text_changes={"rope_parameters": TURNING, **text_changes},
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
    )


def qwen_processor(kind: type[object]) -> Callable[[Tokenizer], object]:
    """Return the builder of a Qwen-VL processor."""
    images = partial(Qwen2VLImageProcessorPil, patch_size=SMALL_PATCH, size=PIXELS)
    return processor(kind, images, video=True)


def qwen_video(kind: str) -> dict[str, object]:
    return {
        "video_processor_type": kind,
        "patch_size": SMALL_PATCH,
        "temporal_patch_size": 2,
        "merge_size": 2,
    }


def pixtral_tower() -> PixtralVisionConfig:
    return PixtralVisionConfig(
        hidden_size=16,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=56,
        patch_size=SMALL_PATCH,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )


def pixtral_processor(merge: int) -> Callable[[Tokenizer], object]:
    """Return the builder of Pixtral's processor: a token ends each row of patches."""
    return processor(
        processor_class("PixtralProcessor"),
        partial(
            PixtralImageProcessorPil,
            patch_size={"height": SMALL_PATCH * merge, "width": SMALL_PATCH * merge},
            size={"longest_edge": 56},
        ),
        patch_size=SMALL_PATCH,
        spatial_merge_size=merge,
    )


GRIDS = {
    "qwen2_vl": Family(
        qwen_model(
            Qwen2VLForConditionalGeneration, Qwen2VLConfig, Qwen2VLTextConfig, Qwen2VLVisionConfig
        ),
        qwen_tokens,
        template("qwen2_vl"),
        qwen_processor(Qwen2VLProcessor),
        stops=("<|im_end|>", "<|endoftext|>"),
        video=qwen_video("Qwen2VLVideoProcessor"),
    ),
    "qwen2_5_vl": Family(
        qwen_model(
            Qwen2_5_VLForConditionalGeneration,
            Qwen2_5_VLConfig,
            Qwen2_5_VLTextConfig,
            Qwen2_5_VLVisionConfig,
        ),
        qwen_tokens,
        template("qwen2_vl"),
        qwen_processor(Qwen2_5_VLProcessor),
        stops=("<|im_end|>", "<|endoftext|>"),
        video=qwen_video("Qwen2VLVideoProcessor"),
    ),
    "qwen3_vl": Family(
        qwen_model(
            Qwen3VLForConditionalGeneration,
            Qwen3VLConfig,
            Qwen3VLTextConfig,
            Qwen3VLVisionConfig,
            rope_parameters={**TURNING, "mrope_interleaved": True},
        ),
        qwen_tokens,
        template("qwen3_vl"),
        qwen_processor(Qwen3VLProcessor),
        stops=("<|im_end|>", "<|endoftext|>"),
        video=qwen_video("Qwen3VLVideoProcessor"),
    ),
    "qwen3_5": Family(
        qwen_model(
            Qwen3_5ForConditionalGeneration,
            Qwen3_5Config,
            Qwen3_5TextConfig,
            Qwen3_5VisionConfig,
            num_hidden_layers=4,
            layer_types=["linear_attention", "full_attention"] * 2,
            head_dim=16,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
            linear_num_key_heads=2,
            linear_num_value_heads=4,
            rope_parameters={
                **TURNING,
                "mrope_interleaved": True,
                "partial_rotary_factor": 0.5,
            },
        ),
        partial(vocabulary.qwen, *VISION_TOKENS, *THINKING),
        template("qwen3_5"),
        qwen_processor(Qwen3VLProcessor),
        stops=("<|im_end|>", "<|endoftext|>"),
        video=qwen_video("Qwen3VLVideoProcessor"),
    ),
    "mistral3": Family(
        model(
            Mistral3ForConditionalGeneration,
            Mistral3Config,
            MistralConfig,
            pixtral_tower,
            image="[IMG]",
            spatial_merge_size=2,
            vision_feature_layer=-1,
        ),
        mistral_tokens,
        template("mistral3"),
        pixtral_processor(merge=2),
    ),
    "pixtral": Family(
        model(
            LlavaForConditionalGeneration,
            LlavaConfig,
            MistralConfig,
            pixtral_tower,
            image="[IMG]",
            vision_feature_select_strategy="full",
            vision_feature_layer=-1,
        ),
        mistral_tokens,
        template("pixtral"),
        pixtral_processor(merge=1),
    ),
}
