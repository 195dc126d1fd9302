"""The LLaVA families: a tower, a projector and any language model."""

from __future__ import annotations

from functools import partial

from transformers import (
    GemmaConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessorPil,
    LlavaNextProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessorPil,
    LlavaOnevisionProcessor,
    LlavaProcessor,
    MistralConfig,
    Qwen2Config,
    SiglipImageProcessorPil,
    VipLlavaConfig,
    VipLlavaForConditionalGeneration,
)

from tests.families import vocabulary
from tests.families.family import Family, template
from tests.families.vision_parts import (
    GRID,
    PATCH,
    SIDE,
    SQUARE,
    clip,
    clip_images,
    model,
    processor,
    siglip,
    token,
)

CLIP_TOKENS = {
    "patch_size": PATCH,
    "vision_feature_select_strategy": "default",
    "num_additional_image_tokens": 1,
}
SIGLIP_TOKENS = {"patch_size": PATCH, "vision_feature_select_strategy": "full"}
IMAGE = {"image_token": "<image>"}
llava_tokens = partial(vocabulary.vicuna, "<image>", "<pad>", pad_token="<pad>")
onevision_tokens = partial(vocabulary.qwen, "<image>", "<video>", extra_special_tokens=IMAGE)
llava = partial(model, LlavaForConditionalGeneration, LlavaConfig, image="<image>")
full = {"vision_feature_select_strategy": "full", "vision_feature_layer": -1}

LLAVA = {
    "llava_llama": Family(
        llava(LlamaConfig, clip),
        llava_tokens,
        template("llava"),
        processor(LlavaProcessor, clip_images(), **CLIP_TOKENS),
    ),
    "llava_qwen2_siglip": Family(
        llava(Qwen2Config, siglip, **full),
        partial(vocabulary.qwen, "<image>"),
        template("llava_interleave"),
        processor(LlavaProcessor, partial(SiglipImageProcessorPil, size=SQUARE), **SIGLIP_TOKENS),
    ),
    "llava_mistral": Family(
        llava(MistralConfig, clip, text_changes={"sliding_window": None}),
        partial(vocabulary.mistral, "<image>"),
        template("llava_mistral"),
        processor(LlavaProcessor, clip_images(), **CLIP_TOKENS),
    ),
    "llava_gemma": Family(
        llava(GemmaConfig, clip),
        partial(vocabulary.gemma, "<image>", "<start_of_turn>", "<end_of_turn>"),
        template("gemma3").replace("<start_of_image>", "<image>"),
        processor(LlavaProcessor, clip_images(), **CLIP_TOKENS),
        stops=("<eos>", "<end_of_turn>"),
    ),
    "vipllava": Family(
        model(
            VipLlavaForConditionalGeneration,
            VipLlavaConfig,
            LlamaConfig,
            clip,
            image="<image>",
            vision_feature_layers=[-2, -3, 1],
        ),
        llava_tokens,
        template("vipllava"),
        processor(LlavaProcessor, clip_images(), **CLIP_TOKENS),
    ),
    "llava_interleave": Family(
        llava(Qwen2Config, siglip, vision_feature_select_strategy="full"),
        onevision_tokens,
        template("llava_onevision"),
        processor(LlavaProcessor, partial(SiglipImageProcessorPil, size=SQUARE), **SIGLIP_TOKENS),
    ),
    "llava_next": Family(
        model(
            LlavaNextForConditionalGeneration,
            LlavaNextConfig,
            MistralConfig,
            clip,
            image="<image>",
            image_grid_pinpoints=GRID,
        ),
        partial(vocabulary.mistral, "<image>", "<pad>", pad_token="<pad>"),
        template("llava_mistral"),
        processor(
            LlavaNextProcessor,
            partial(
                LlavaNextImageProcessorPil,
                size={"shortest_edge": SIDE},
                crop_size=SQUARE,
                image_grid_pinpoints=GRID,
            ),
            **CLIP_TOKENS,
        ),
    ),
    "llava_onevision": Family(
        model(
            LlavaOnevisionForConditionalGeneration,
            LlavaOnevisionConfig,
            Qwen2Config,
            siglip,
            image="<image>",
            video_token_id=token("<video>"),
            image_grid_pinpoints=GRID,
            vision_aspect_ratio="anyres_max_9",
            **full,
        ),
        onevision_tokens,
        template("llava_onevision"),
        processor(
            LlavaOnevisionProcessor,
            partial(LlavaOnevisionImageProcessorPil, size=SQUARE, image_grid_pinpoints=GRID),
            video=True,
            num_image_tokens=(SIDE // PATCH) ** 2,
            vision_feature_select_strategy="full",
            vision_aspect_ratio="anyres_max_9",
        ),
        video={"video_processor_type": "LlavaOnevisionVideoProcessor", "size": SQUARE},
    ),
}
