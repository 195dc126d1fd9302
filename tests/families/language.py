"""The language families: a decoder, its tokenizer and its chat template."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedModel,
)

from tests.families import vocabulary
from tests.families.family import Family, Tokenizer, template, text_config

GEMMA_TURN = ("<start_of_turn>", "<end_of_turn>")
GEMMA_STOPS = ("<eos>", "<end_of_turn>")
QWEN_STOPS = ("<|im_end|>", "<|endoftext|>")
LLAMA3_TURN = ("<|start_header_id|>", "<|end_header_id|>", "<|end_of_text|>", "<|eom_id|>")


def decoder(kind: str, **changes: object) -> Callable[[Tokenizer], PreTrainedModel]:
    """Return the builder of a tiny causal language model of the type ``kind``."""

    def build(tokenizer: Tokenizer) -> PreTrainedModel:
        config = text_config(partial(AutoConfig.for_model, kind), tokenizer, **changes)
        return AutoModelForCausalLM.from_config(config)

    return build


gemma_tokens = partial(vocabulary.gemma, *GEMMA_TURN)
thinking_tokens = partial(vocabulary.qwen, "<think>", "</think>")

LANGUAGE = {
    "llama": Family(
        decoder("llama"),
        partial(vocabulary.llama3, *LLAMA3_TURN),
        template("llama3"),
        stops=("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
    ),
    "gemma3_text": Family(
        decoder(
            "gemma3_text",
            sliding_window=8,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        ),
        gemma_tokens,
        template("gemma3"),
        stops=GEMMA_STOPS,
    ),
    "gpt2": Family(
        decoder("gpt2", n_embd=32, n_layer=3, n_head=4, n_positions=1024, n_inner=64),
        vocabulary.gpt2,
    ),
    "qwen3_moe": Family(
        decoder(
            "qwen3_moe",
            num_experts=4,
            num_experts_per_tok=2,
            moe_intermediate_size=24,
            decoder_sparse_step=1,
        ),
        thinking_tokens,
        template("qwen3"),
        stops=QWEN_STOPS,
    ),
}
