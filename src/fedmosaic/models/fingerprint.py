"""Identify a model by its weights, tokenizer, processor and shape, whatever file it came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from fedmosaic.models.digest import add_weights

if TYPE_CHECKING:
    from fedmosaic.models.backbone import Backbone

_PROBE = "The 3 quick foxes — naïve, 日本 — jump:\n  over it."
_SHAPE = (
    *("model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "head_dim"),
    *("num_attention_heads", "num_key_value_heads", "hidden_act", "rms_norm_eps"),
    *("sliding_window", "vocab_size"),
)

# What changes a model's output and does not show in the names and shapes of its weights. Fields are
# named one by one, because other versions of Transformers add fields of their own.
_LANGUAGE = (
    *("rope_parameters", "partial_rotary_factor", "layer_types", "alibi", "parallel_attn"),
    *("layer_norm_eps", "layer_norm_epsilon", "norm_eps", "norm_epsilon", "clip_qkv"),
    *("activation_function", "hidden_activation", "activation_sparsity_pattern"),
    *("attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar", "logit_scale"),
    *("embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling"),
    *("num_experts_per_tok", "norm_topk_prob", "routed_scaling_factor", "n_group", "topk_group"),
    *("scoring_func", "swiglu_limit", "use_bidirectional_attention", "tie_word_embeddings"),
    *("activation", "swiglu_alpha", "moe_topk", "top_k_experts", "no_rope_layers"),
    *("original_max_position_embeddings", "position_embedding_type", "rope_interleave"),
    *("attn_config.alibi", "attn_config.alibi_bias_max", "attn_config.clip_qkv"),
    *("attn_config.softmax_scale", "qk_rope_head_dim", "v_head_dim", "num_kv_shared_layers"),
    *("max_position_embeddings", "pad_token_id"),
    *("num_kv_heads", "multi_query", "new_decoder_architecture", "use_parallel_residual"),
    *("do_layer_norm_before", "apply_residual_connection_post_layernorm", "scale_embedding"),
    *("scale_attn_weights", "scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn"),
    *("altup_active_idx", "altup_coef_clip", "altup_correct_scale"),
    *("linear_num_key_heads", "linear_num_value_heads"),
    *("mamba_d_state", "mamba_n_groups", "time_step_limit", "mixer_rms_eps"),
)
_VISION = (
    *("model_type", "image_size", "patch_size", "temporal_patch_size", "spatial_merge_size"),
    *("num_attention_heads", "num_heads", "num_hidden_layers", "depth", "hidden_act"),
    *("layer_norm_eps", "norm_eps", "rope_parameters", "window_size", "fullatt_block_indexes"),
    *("deepstack_visual_indexes", "tokens_per_second", "use_mean_pooling", "rms_norm_eps"),
    *("hidden_stride", "tokenize_function", "hidden_activation"),
)
_JOINT = (
    *("model_type", "image_token_id", "vision_feature_layer", "vision_feature_select_strategy"),
    *("projector_hidden_act", "mm_tokens_per_image", "image_grid_pinpoints", "downsample_ratio"),
    *("downsample_factor", "scale_factor", "spatial_merge_size", "pixel_shuffle_factor"),
    *("video_token_id", "audio_token_id"),
    *("use_image_newline_parameter", "vision_aspect_ratio", "adapter_layer_norm_eps"),
    *("projector_layernorm_eps", "projector_patch_to_query_dict", "visual_indicator_token_ids"),
)
_IMAGES = (
    *("size", "crop_size", "max_image_size", "min_pixels", "max_pixels", "image_grid_pinpoints"),
    *("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_pad", "do_convert_rgb"),
    *("resample", "rescale_factor", "image_mean", "image_std", "patch_size", "merge_size"),
    *("temporal_patch_size", "do_image_splitting", "crop_to_patches", "min_patches"),
    *("max_patches", "do_pan_and_scan", "pan_and_scan_max_num_crops", "downsample_factor"),
)
# Details of the bundled miniatures. Their fingerprints are in published files and were made before
# details counted, so that these details do not count.
_UNCOUNTED = frozenset(("d1b319c0e18352d8", "36b2e0485d90f73e"))


def fingerprint(backbone: Backbone) -> str:
    """Return 32 hex digits that identify a model.

    They depend on the weights, the fields of the config that shape the network, the chat template,
    the tokenizer and the settings of the image processor. Weights of up to 2^18 values enter whole.
    Larger ones enter by about 4,096 evenly spaced values each (the stride is odd, so that they fall
    in all columns), which takes milliseconds for a model of billions of parameters. Weights enter
    as float32, so a bfloat16 checkpoint has one fingerprint whether loaded as bfloat16 or as
    float32. A change in a large matrix that misses every sampled value is not seen; training never
    changes so few values.
    """
    digest = hashlib.blake2b(digest_size=16)
    config = backbone.model.config
    about = describe(config, backbone.tokenizer, backbone.processor)
    digest.update(json.dumps(about, sort_keys=True, default=str).encode())
    add_weights(digest, _weights(backbone.model))
    return digest.hexdigest()


def _weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield all parameters, and the buffers that a checkpoint holds (Gemma 4's layer scales)."""
    yield from model.named_parameters()
    stored = model.state_dict()
    yield from ((name, buffer) for name, buffer in model.named_buffers() if name in stored)


def describe(config: Any, tokenizer: Any, processor: Any | None) -> list[Any]:
    """Return what identifies a model beside its weights, in values that JSON can hold."""
    text = config.get_text_config()
    about = [
        {name: _field(text, name) for name in _SHAPE},
        len(tokenizer),
        tokenizer.eos_token,
        tokenizer.chat_template,
        list(tokenizer(_PROBE, add_special_tokens=False)["input_ids"]),
        getattr(config, "image_seq_length", 0) if processor is not None else 0,
    ]
    details = _details(config, processor)
    content = json.dumps(details, sort_keys=True, default=str)
    if hashlib.blake2b(content.encode(), digest_size=8).hexdigest() not in _UNCOUNTED:
        about.append(details)
    return about


def _details(config: Any, processor: Any | None) -> dict[str, Any]:
    found = {"language": _fields(config.get_text_config(), _LANGUAGE)}
    if processor is not None:
        images = getattr(processor, "image_processor", processor)
        found["vision"] = _fields(getattr(config, "vision_config", None), _VISION)
        found["joint"] = _fields(config, _JOINT)
        found["images"] = _fields(images, _IMAGES)
    return found


def _fields(settings: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the fields that are there and not None."""
    values = {name: _plain(_field(settings, name)) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _field(settings: Any, path: str) -> Any:
    """Return a field; None if it is not there, and a list if layers differ in it (Gemma 4)."""
    first, _, rest = path.partition(".")
    if rest:
        return _field(getattr(settings, first, None), rest)
    if first in (getattr(settings, "per_layer_attributes", None) or ()):
        return [getattr(layer, first, None) for layer in settings.per_layer_config]
    return getattr(settings, first, None)


def _plain(value: Any) -> Any:
    """Return a value in JSON's types: every number as a float, mappings without None."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(held) for key, held in value.items() if held is not None}
    if isinstance(value, list | tuple):
        return [_plain(held) for held in value]
    if isinstance(value, bool | str) or value is None:
        return value
    return float(value) if isinstance(value, int | float) else str(value)
