"""Identify a model by its weights, tokenizer, processor and shape, whatever file it came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

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
)
_VISION = (
    *("model_type", "image_size", "patch_size", "temporal_patch_size", "spatial_merge_size"),
    *("num_attention_heads", "num_heads", "num_hidden_layers", "depth", "hidden_act"),
    *("layer_norm_eps", "norm_eps", "rope_parameters", "window_size", "fullatt_block_indexes"),
    *("deepstack_visual_indexes", "tokens_per_second", "use_mean_pooling"),
)
_JOINT = (
    *("model_type", "image_token_id", "vision_feature_layer", "vision_feature_select_strategy"),
    *("projector_hidden_act", "mm_tokens_per_image", "image_grid_pinpoints", "downsample_ratio"),
    *("downsample_factor", "scale_factor", "spatial_merge_size", "pixel_shuffle_factor"),
    *("use_image_newline_parameter",),
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
_UNCOUNTED = frozenset(("640a64bbde565de4", "21528bc6c226d322"))


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
    add_weights(digest, backbone.model.named_parameters())
    return digest.hexdigest()


def describe(config: Any, tokenizer: Any, processor: Any | None) -> list[Any]:
    """Return what identifies a model beside its weights, in values that JSON can hold."""
    text = config.get_text_config()
    about = [
        {name: getattr(text, name, None) for name in _SHAPE},
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
    values = {name: _plain(getattr(settings, name, None)) for name in names}
    return {name: value for name, value in values.items() if value is not None}


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
