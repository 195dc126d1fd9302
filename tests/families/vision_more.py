"""More vision-language families, each with a way of its own to place pictures."""

from __future__ import annotations

from functools import partial

from transformers import (
    AriaConfig,
    AriaForConditionalGeneration,
    AriaImageProcessorPil,
    AriaProcessor,
    AriaTextConfig,
    Cohere2Config,
    Cohere2VisionConfig,
    Cohere2VisionForConditionalGeneration,
    Gemma4AudioFeatureExtractor,
    Gemma4Config,
    Gemma4ForConditionalGeneration,
    Gemma4ImageProcessorPil,
    Gemma4Processor,
    Gemma4TextConfig,
    Gemma4VisionConfig,
    Glm4vConfig,
    Glm4vForConditionalGeneration,
    Glm4vImageProcessorPil,
    Glm4vProcessor,
    Idefics2Config,
    Idefics2ForConditionalGeneration,
    Idefics2ImageProcessorPil,
    Idefics2Processor,
    Lfm2Config,
    Lfm2VlConfig,
    Lfm2VlForConditionalGeneration,
    MistralConfig,
    Ovis2Config,
    Ovis2ForConditionalGeneration,
    Ovis2ImageProcessorPil,
    Ovis2Processor,
    Qwen2Config,
    Siglip2VisionConfig,
)
from transformers.models.glm4v.configuration_glm4v import Glm4vTextConfig, Glm4vVisionConfig
from transformers.models.idefics2.configuration_idefics2 import Idefics2VisionConfig
from transformers.models.ovis2.configuration_ovis2 import Ovis2VisionConfig

from tests.families import vocabulary
from tests.families.family import Family, template
from tests.families.language_parts import full_and_sliding
from tests.families.vision_grids import PIXELS, SMALL_PATCH, TURNING, qwen_video
from tests.families.vision_parts import TOWER, model, processor, siglip, token
from tests.families.vision_tiles import COHERE_TOKENS, EVEN, EVEN_SQUARE, EVEN_TOWER

GEMMA4_TOKENS = {
    "image_token": "<|image|>",
    "boi_token": "<|image>",
    "eoi_token": "<image|>",
    "audio_token": "<|audio|>",
    "boa_token": "<|audio>",
    "eoa_token": "<audio|>",
}
GLM_TOKENS = (
    *("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|image|>", "<|video|>"),
    *("<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>"),
)
OVIS_INDICATORS = ("<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>")
IDEFICS_TOKENS = {"image_token": "<image>", "image_boundary_token": "<fake_token_around_image>"}
COHERE2_TOKENS = {
    "image_token": "<|IMG_PATCH|>",
    "boi_token": "<|START_OF_IMG|>",
    "eoi_token": "<|END_OF_IMG|>",
    "img_line_break_token": "<|IMG_LINE_BREAK|>",
}
LFM_TILES = tuple(f"<|img_row_{row}_col_{col}|>" for row in range(1, 5) for col in range(1, 5))
LFM_TOKENS = ("<|im_start|>", "<image>", "<|image_start|>", "<|image_end|>", "<|img_thumbnail|>")

MORE = {
    "gemma4": Family(
        model(
            Gemma4ForConditionalGeneration,
            Gemma4Config,
            Gemma4TextConfig,
            partial(
                Gemma4VisionConfig,
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=2,
                head_dim=8,
                patch_size=4,
                position_embedding_size=256,
            ),
            image="<|image|>",
            text_changes={
                "num_hidden_layers": 4,
                "global_head_dim": 16,
                "vocab_size_per_layer_input": 512,
                "hidden_size_per_layer_input": 8,
                "num_kv_shared_layers": 2,
                "use_bidirectional_attention": "vision",
                **full_and_sliding(4),
            },
            audio_config=None,
            boi_token_id=token("<|image>"),
            eoi_token_id=token("<image|>"),
            video_token_id=token("<|video|>"),
            audio_token_id=token("<|audio|>"),
            boa_token_id=token("<|audio>"),
            eoa_token_index=token("<audio|>"),
        ),
        partial(
            vocabulary.gemma,
            *("<|turn>", "<turn|>", *GEMMA4_TOKENS.values(), "<|video|>"),
            extra_special_tokens=GEMMA4_TOKENS,
        ),
        template("gemma4"),
        processor(
            Gemma4Processor,
            partial(Gemma4ImageProcessorPil, patch_size=4, max_soft_tokens=70),
            video=True,
            feature_extractor=Gemma4AudioFeatureExtractor(),
            image_seq_length=70,
        ),
        stops=("<eos>", "<turn|>"),
        video={"video_processor_type": "Gemma4VideoProcessor", "patch_size": 4},
    ),
    "glm4v": Family(
        model(
            Glm4vForConditionalGeneration,
            Glm4vConfig,
            Glm4vTextConfig,
            partial(
                Glm4vVisionConfig,
                depth=2,
                hidden_size=16,
                num_heads=2,
                image_size=42,
                patch_size=SMALL_PATCH,
                out_hidden_size=32,
                intermediate_size=48,
            ),
            image="<|image|>",
            text_changes={"rope_parameters": {**TURNING, "partial_rotary_factor": 1.0}},
            video_token_id=token("<|video|>"),
            image_start_token_id=token("<|begin_of_image|>"),
            image_end_token_id=token("<|end_of_image|>"),
            video_start_token_id=token("<|begin_of_video|>"),
            video_end_token_id=token("<|end_of_video|>"),
        ),
        partial(vocabulary.llama3, *GLM_TOKENS, bos=None, eos="<|endoftext|>"),
        template("glm4v"),
        processor(
            Glm4vProcessor,
            partial(Glm4vImageProcessorPil, patch_size=SMALL_PATCH, size=PIXELS),
            video=True,
        ),
        stops=("<|endoftext|>", "<|user|>"),
        video=qwen_video("Glm4vVideoProcessor"),
    ),
    "ovis2": Family(
        model(
            Ovis2ForConditionalGeneration,
            Ovis2Config,
            Qwen2Config,
            partial(Ovis2VisionConfig, **EVEN_TOWER, vocab_size=24, hidden_stride=2),
            image="<IMG_ATOM>",
            visual_indicator_token_ids=lambda tokenizer: tokenizer.convert_tokens_to_ids(
                [*OVIS_INDICATORS]
            ),
            vocab_size=lambda tokenizer: len(tokenizer),
            hidden_size=32,
        ),
        partial(vocabulary.qwen, "<image>", "<IMG_ATOM>", *OVIS_INDICATORS),
        template("llava_interleave"),
        processor(
            Ovis2Processor,
            partial(Ovis2ImageProcessorPil, size=EVEN_SQUARE, crop_to_patches=True, max_patches=4),
            image_seq_length=4,
        ),
    ),
    "idefics2": Family(
        model(
            Idefics2ForConditionalGeneration,
            Idefics2Config,
            MistralConfig,
            partial(Idefics2VisionConfig, **EVEN_TOWER),
            image="<image>",
            perceiver_config={
                "hidden_size": 32,
                "resampler_n_latents": 4,
                "resampler_depth": 2,
                "resampler_n_heads": 4,
                "resampler_head_dim": 8,
                "num_key_value_heads": 2,
            },
        ),
        partial(
            vocabulary.mistral,
            *(*IDEFICS_TOKENS.values(), "<end_of_utterance>"),
            extra_special_tokens=IDEFICS_TOKENS,
        ),
        template("idefics2"),
        processor(
            Idefics2Processor,
            partial(Idefics2ImageProcessorPil, size={"shortest_edge": 28, "longest_edge": EVEN}),
            image_seq_len=4,
        ),
        stops=("</s>", "<end_of_utterance>"),
    ),
    "aria": Family(
        model(
            AriaForConditionalGeneration,
            AriaConfig,
            AriaTextConfig,
            partial(siglip, **{**TOWER, "image_size": 980, "patch_size": 70, "hidden_size": 32}),
            image="<|img|>",
            text_changes={"moe_num_experts": 4, "moe_topk": 2, "moe_num_shared_experts": 1},
            projector_patch_to_query_dict={"196": 256},
        ),
        partial(
            vocabulary.mistral,
            *("<|im_start|>", "<|im_end|>", "<fim_prefix>", "<fim_suffix>", "<|img|>"),
            eos_token="<|im_end|>",
            extra_special_tokens={"image_token": "<|img|>"},
        ),
        template("aria"),
        processor(AriaProcessor, AriaImageProcessorPil),
    ),
}
NEED_TORCHVISION = {
    "cohere2_vision": Family(
        model(
            Cohere2VisionForConditionalGeneration,
            Cohere2VisionConfig,
            Cohere2Config,
            partial(siglip, **EVEN_TOWER),
            image="<|IMG_PATCH|>",
            text_changes=full_and_sliding(),
            downsample_factor=2,
            alignment_intermediate_size=48,
        ),
        partial(vocabulary.cohere, *COHERE_TOKENS, extra_special_tokens=COHERE2_TOKENS),
        template("cohere2_vision"),
        {
            "processor_class": "Cohere2VisionProcessor",
            "image_processor": {
                "image_processor_type": "Cohere2VisionImageProcessor",
                "size": EVEN_SQUARE,
                "patch_size": 2,
                "max_patches": 4,
            },
        },
    ),
    "lfm2_vl": Family(
        model(
            Lfm2VlForConditionalGeneration,
            Lfm2VlConfig,
            Lfm2Config,
            partial(
                Siglip2VisionConfig,
                hidden_size=24,
                intermediate_size=40,
                num_hidden_layers=2,
                num_attention_heads=2,
                patch_size=SMALL_PATCH,
                num_patches=64,
                vision_use_head=False,
            ),
            image="<image>",
            text_changes={
                "num_hidden_layers": 4,
                "layer_types": ["conv", "full_attention"] * 2,
                "block_auto_adjust_ff_dim": False,
            },
            projector_hidden_size=48,
            downsample_factor=2,
        ),
        partial(
            vocabulary.llama3, *LFM_TOKENS, *LFM_TILES, bos="<|startoftext|>", eos="<|im_end|>"
        ),
        template("lfm2_vl"),
        {
            "processor_class": "Lfm2VlProcessor",
            "image_processor": {
                "image_processor_type": "Lfm2VlImageProcessor",
                "encoder_patch_size": SMALL_PATCH,
                "tile_size": EVEN,
                "size": EVEN_SQUARE,
                "min_image_tokens": 4,
                "max_image_tokens": 16,
                "max_tiles": 4,
            },
        },
    ),
}
