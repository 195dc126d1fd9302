"""Families that cut large pictures into tiles, or make every picture a fixed number of tokens."""

from __future__ import annotations

from functools import partial

from transformers import (
    AyaVisionConfig,
    AyaVisionForConditionalGeneration,
    AyaVisionProcessor,
    Cohere2Config,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessorPil,
    Gemma3Processor,
    Gemma3TextConfig,
    GemmaConfig,
    GotOcr2ImageProcessorPil,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVisionConfig,
    LlamaConfig,
    MllamaConfig,
    MllamaForConditionalGeneration,
    MllamaImageProcessorPil,
    MllamaProcessor,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    Qwen2Config,
    SiglipImageProcessorPil,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessorPil,
    SmolVLMProcessor,
)
from transformers.models.idefics3.configuration_idefics3 import Idefics3VisionConfig
from transformers.models.mllama.configuration_mllama import MllamaTextConfig, MllamaVisionConfig
from transformers.models.smolvlm.configuration_smolvlm import SmolVLMVisionConfig

from tests.families import vocabulary
from tests.families.family import Family, template
from tests.families.vision_parts import TOWER, model, processor, siglip, token

EVEN = 56  # four patches of 14 a side: an even number, as merging two by two needs
EVEN_SQUARE = {"height": EVEN, "width": EVEN}
EVEN_TOWER = {**TOWER, "image_size": EVEN}

SMOL_TOKENS = (
    "<image>",
    "<fake_token_around_image>",
    "<global-img>",
    "<end_of_utterance>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)),
)
COHERE_TOKENS = (
    *("<image>", "<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>"),
    *("<|START_RESPONSE|>", "<|END_RESPONSE|>", "TILE_GLOBAL"),
    *(f"TILE_{tile}" for tile in range(1, 13)),
)
INTERNVL_TOKENS = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
GEMMA3_TOKENS = {
    "image_token": "<image_soft_token>",
    "boi_token": "<start_of_image>",
    "eoi_token": "<end_of_image>",
}
GEMMA_TURN = ("<start_of_turn>", "<end_of_turn>")
LLAMA3_TURN = ("<|start_header_id|>", "<|end_header_id|>", "<|end_of_text|>", "<|eom_id|>")
smol_tokens = partial(
    vocabulary.llama3, *SMOL_TOKENS, bos="<|im_start|>", eos="<end_of_utterance>",
    add_bos_token=False,
)  # fmt: skip
smol_size = {"size": {"longest_edge": 2 * EVEN}, "max_image_size": {"longest_edge": EVEN}}

TILES = {
    "smolvlm": Family(
        model(
            SmolVLMForConditionalGeneration,
            SmolVLMConfig,
            LlamaConfig,
            partial(SmolVLMVisionConfig, **EVEN_TOWER),
            image="<image>",
            scale_factor=2,
        ),
        smol_tokens,
        template("smolvlm"),
        processor(
            SmolVLMProcessor,
            partial(SmolVLMImageProcessorPil, **smol_size),
            video=True,
            image_seq_len=4,
        ),
        video={
            "video_processor_type": "SmolVLMVideoProcessor",
            "max_image_size": {"longest_edge": EVEN},
            "num_frames": 4,
            "fps": 1,
        },
    ),
    "idefics3": Family(
        model(
            Idefics3ForConditionalGeneration,
            Idefics3Config,
            LlamaConfig,
            partial(Idefics3VisionConfig, **EVEN_TOWER),
            image="<image>",
            scale_factor=2,
        ),
        smol_tokens,
        template("smolvlm"),
        processor(
            Idefics3Processor, partial(Idefics3ImageProcessorPil, **smol_size), image_seq_len=4
        ),
    ),
    "internvl": Family(
        model(
            InternVLForConditionalGeneration,
            InternVLConfig,
            Qwen2Config,
            partial(
                InternVLVisionConfig,
                **{**EVEN_TOWER, "image_size": [EVEN] * 2, "patch_size": [14] * 2},
                norm_type="layer_norm",
            ),
            image="<IMG_CONTEXT>",
            image_seq_length=4,
            downsample_ratio=0.5,
        ),
        partial(vocabulary.qwen, *INTERNVL_TOKENS.values(), extra_special_tokens=INTERNVL_TOKENS),
        template("internvl"),
        processor(
            InternVLProcessor,
            partial(
                GotOcr2ImageProcessorPil, size=EVEN_SQUARE, crop_to_patches=True, max_patches=6
            ),
            video=True,
            image_seq_length=4,
        ),
        video={"video_processor_type": "InternVLVideoProcessor", "size": EVEN_SQUARE},
    ),
    "gemma3": Family(
        model(
            Gemma3ForConditionalGeneration,
            Gemma3Config,
            Gemma3TextConfig,
            partial(siglip, **EVEN_TOWER),
            image="<image_soft_token>",
            text_changes={
                "sliding_window": 8,
                "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            },
            mm_tokens_per_image=4,
            boi_token_index=token("<start_of_image>"),
            eoi_token_index=token("<end_of_image>"),
        ),
        partial(
            vocabulary.gemma,
            *GEMMA_TURN,
            *GEMMA3_TOKENS.values(),
            extra_special_tokens=GEMMA3_TOKENS,
        ),
        template("gemma3"),
        processor(
            Gemma3Processor,
            partial(Gemma3ImageProcessorPil, size=EVEN_SQUARE),
            image_seq_length=4,
        ),
        stops=("<eos>", "<end_of_turn>"),
    ),
    "paligemma": Family(
        model(
            PaliGemmaForConditionalGeneration,
            PaliGemmaConfig,
            GemmaConfig,
            siglip,
            image="<image>",
            projection_dim=32,
        ),
        partial(
            vocabulary.gemma,
            "<image>",
            *(f"<loc{index:04d}>" for index in range(1024)),
            *(f"<seg{index:03d}>" for index in range(128)),
            extra_special_tokens={"image_token": "<image>"},
        ),
        None,
        processor(
            PaliGemmaProcessor,
            partial(SiglipImageProcessorPil, size={"height": 42, "width": 42}, image_seq_length=9),
        ),
    ),
    "aya_vision": Family(
        model(
            AyaVisionForConditionalGeneration,
            AyaVisionConfig,
            Cohere2Config,
            partial(siglip, **EVEN_TOWER),
            image="<|IMG_PATCH|>",
            text_changes={"sliding_window": 8},
            downsample_factor=2,
        ),
        partial(vocabulary.cohere, *COHERE_TOKENS),
        template("aya_vision"),
        processor(
            AyaVisionProcessor,
            partial(
                GotOcr2ImageProcessorPil, size=EVEN_SQUARE, crop_to_patches=True, max_patches=4
            ),
            patch_size=14,
            downsample_factor=2,
            img_size=EVEN,
        ),
    ),
    "mllama": Family(
        model(
            MllamaForConditionalGeneration,
            MllamaConfig,
            MllamaTextConfig,
            partial(
                MllamaVisionConfig,
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=3,
                num_global_layers=1,
                attention_heads=2,
                image_size=28,
                patch_size=14,
                max_num_tiles=4,
                intermediate_layers_indices=[0, 2],
                vision_output_dim=48,
            ),
            image="<|image|>",
            text_changes={
                "num_hidden_layers": 4,
                "cross_attention_layers": [1, 3],
                "vocab_size": token("<|image|>"),  # the model embeds it, but never predicts it
            },
        ),
        partial(
            vocabulary.llama3,
            *LLAMA3_TURN,
            "<|python_tag|>",
            "<|finetune_right_pad_id|>",
            "<|image|>",
            pad_token="<|finetune_right_pad_id|>",
        ),
        template("mllama"),
        processor(
            MllamaProcessor,
            partial(MllamaImageProcessorPil, size={"height": 28, "width": 28}, max_image_tiles=4),
        ),
        stops=("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
    ),
}
