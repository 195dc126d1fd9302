"""Check that what was loaded fits together: weights, tokenizer, image token and processor."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any

from fedmosaic.errors import ModelError
from fedmosaic.models.checkpoint import some

# Families whose forward pass never looks up the embedding of the image token.
_NO_IMAGE_EMBEDDING = frozenset(("gemma3", "paligemma"))
# Vision towers that take images of one size only.
_FIXED_SIZE = frozenset(("clip_vision_model", "siglip_vision_model"))
# Families whose processor counts image tokens by its own patch size.
_COUNTS_PATCHES = frozenset(("llava", "llava_next", "vipllava"))
# Entries of old checkpoints that are constants and no weights.
_CONSTANTS = re.compile(r"(rotary_emb\.inv_freq|position_ids|masked_bias|attn\.bias)$")


def check_weights(name: str, model: Any, info: Mapping[str, Any]) -> None:
    """Compare the weights of a checkpoint with those that the model needs.

    Args:
        name: of the model.
        model: the loaded model.
        info: what ``from_pretrained`` returned beside it; tied weights do not count as missing.

    Raises:
        ModelError: weights are missing or have other sizes. Transformers would draw them at random.
    """
    missing, unexpected = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    unexpected = [key for key in unexpected if not _CONSTANTS.search(key)]
    if missing:
        unused = f", but holds {some(unexpected)}, which the model does not have" * bool(unexpected)
        raise ModelError(
            f"model {name!r}: the checkpoint lacks {len(missing)} of the {len(model.state_dict())} "
            f"weights of {type(model).__name__} ({some(missing)}){unused}: copy or download all "
            "its files, or save the whole model again"
        )
    if info["mismatched_keys"]:
        key, stored, expected = sorted(info["mismatched_keys"])[0]
        raise ModelError(
            f"model {name!r}: weights have other sizes than config.json says "
            f"({len(info['mismatched_keys'])}), e.g. {key}: {list(stored)} in the checkpoint, "
            f"{list(expected)} by the config; take config.json and weights from one model"
        )
    if unexpected:
        warnings.warn(
            f"model {name!r}: {type(model).__name__} does not use {len(unexpected)} weights of the "
            f"checkpoint ({some(unexpected)}); they are left out",
            stacklevel=4,
        )


def check_offloaded(name: str, model: Any) -> None:
    """Raise ModelError if weights were left in main memory or on disk by a ``device_map``.

    They are brought to a device for each pass of their layer only, so that whatever else reads them
    (fingerprints, alignments, signatures, merged exports) would find no numbers.
    """
    weights = dict(model.named_parameters())
    left = [key for key, value in weights.items() if value.is_meta]
    if left:
        raise ModelError(
            f"model {name!r}: {len(left)} of its {len(weights)} weights are offloaded to main "
            f"memory or disk ({some(left)}), where alignments and signatures cannot read them: "
            "place all of it on devices, with models.dtype: bfloat16, models.quantise: 4bit, or "
            "models.device_map: auto on more cards"
        )


def check_tokenizer(name: str, model: Any, tokenizer: Any) -> None:
    """Raise ModelError if the tokenizer makes ids that the model has no embedding for.

    Special tokens that neither the chat template nor the tokenizer itself writes may lie beyond the
    embeddings: Gemma 3's text models have such a token for images.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    beyond = {token: number for token, number in tokenizer.get_vocab().items() if number >= rows}
    image = _image_token_id(model.config)
    if image is not None:
        _check_image_token(name, model, tokenizer, image, rows)
        beyond = {token: number for token, number in beyond.items() if number != image}
    special, template = set(tokenizer.all_special_tokens), str(tokenizer.chat_template or "")
    written = {tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token}
    special |= {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    used = [t for t in beyond if t not in special or t in written or t in template]
    if used:
        example = min(used, key=lambda token: beyond[token])
        raise ModelError(
            f"model {name!r}: its tokenizer has {max(beyond.values()) + 1} tokens, but the model "
            f"has embeddings for {rows}, so {example!r} (id {beyond[example]}) has none: use the "
            "tokenizer that belongs to the weights, or train the model with "
            "`model.resize_token_embeddings(len(tokenizer))` and save it"
        )


def _check_image_token(name: str, model: Any, tokenizer: Any, image: int, rows: int) -> None:
    if tokenizer.convert_ids_to_tokens(image) is None:
        raise ModelError(
            f"model {name!r}: the image token of its config (id {image}) is not in its tokenizer, "
            f"which has {len(tokenizer)} tokens: use the tokenizer that belongs to the weights, or "
            "correct image_token_id in config.json"
        )
    if image >= rows and model.config.model_type not in _NO_IMAGE_EMBEDDING:
        raise ModelError(
            f"model {name!r}: the image token has the id {image}, but the model has embeddings for "
            f"{rows} tokens: save it after `model.resize_token_embeddings(len(tokenizer))`"
        )


def check_processor(name: str, config: Any, processor: Any) -> None:
    """Raise ModelError if the processor makes images of another size than the tower takes."""
    vision = getattr(config, "vision_config", None)
    if vision is None or processor is None:
        return
    images = getattr(processor, "image_processor", processor)
    expected = _pair(getattr(vision, "image_size", None))
    made = _pair(images.crop_size if getattr(images, "do_center_crop", False) else images.size)
    if vision.model_type in _FIXED_SIZE and expected and made and made != expected:
        raise ModelError(
            f"model {name!r}: its image processor makes images of {made[0]} × {made[1]} pixels, "
            f"but its vision tower takes {expected[0]} × {expected[1]}: use the "
            "preprocessor_config.json that belongs to the weights"
        )
    counting = [images] + [processor] * (config.model_type in _COUNTS_PATCHES)
    for mine, theirs in (
        ("patch_size", "patch_size"),
        ("merge_size", "spatial_merge_size"),
        ("temporal_patch_size", "temporal_patch_size"),
    ):
        wanted = getattr(vision, theirs, None)
        for part in counting:
            found = getattr(part, mine, None)
            if isinstance(found, int) and isinstance(wanted, int) and found != wanted:
                raise ModelError(
                    f"model {name!r}: its processor has {mine} {found}, but its vision tower "
                    f"{theirs} {wanted}: use the processor files that belong to the weights"
                )


def _image_token_id(config: Any) -> int | None:
    for field in ("image_token_id", "image_token_index"):
        found = getattr(config, field, None)
        if isinstance(found, int):
            return found
    return None


def _pair(size: Any) -> tuple[int, int] | None:
    """Return height and width of a size that says both; None for other sizes."""
    if isinstance(size, int):
        return size, size
    if isinstance(size, list | tuple) and len(size) == 2:
        return int(size[0]), int(size[1])
    sides = [getattr(size, side, None) for side in ("height", "width")]
    if isinstance(size, Mapping):
        sides = [size.get(side) for side in ("height", "width")]
    height, width = sides
    return (int(height), int(width)) if height and width else None
