"""Make small tokenizers of two families: byte-level BPE and sentencepiece."""

from __future__ import annotations

from typing import Any

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers import models as cores
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TRIMMED = (
    "{% for m in messages %}"
    "{{ '<start_of_turn>' + m['role'] + '\n' + m['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>assistant\n' }}{% endif %}"
)


def byte_level(template: str = CHATML, trim: bool = True) -> Any:
    """Make byte-level BPE as GPT-2's and Qwen's; ``trim``: offsets without the leading space."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [
        ("t", "h"),
        ("Ġ", "th"),
        ("Ġth", "e"),
        ("Ġ", "Ġ"),
        ("r", "e"),
        ("Ġ", "re"),
        ("i", "m"),
        ("Ċ", "a"),
    ]
    vocab = {
        token: index for index, token in enumerate([*alphabet, *("".join(pair) for pair in merges)])
    }
    raw = Tokenizer(cores.BPE(vocab=vocab, merges=merges))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.post_processor = processors.ByteLevel(trim_offsets=trim)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(["<|begin|>", "<|im_start|>", "<|im_end|>"])
    return fast(raw, template, "<|begin|>", "<|im_end|>")


def sentencepiece(template: str = TRIMMED) -> Any:
    """Make a tokenizer as Gemma's: spaces become U+2581, unknown characters become bytes."""
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,;:?!_\n\t▁"
    tokens = [
        *letters,
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁t",
        "▁th",
        "▁the",
        "▁r",
        "▁re",
        "▁red",
    ]
    merges = [("▁", "t"), ("▁t", "h"), ("▁th", "e"), ("▁", "r"), ("▁r", "e"), ("▁re", "d")]
    raw = Tokenizer(
        cores.BPE(
            vocab={token: index for index, token in enumerate(tokens)},
            merges=merges,
            byte_fallback=True,
        )
    )
    raw.normalizer = normalizers.Replace(" ", "▁")
    raw.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    raw.add_special_tokens(["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"])
    return fast(raw, template, "<bos>", "<eos>")


def fast(raw: Tokenizer, template: str, begin: str, end: str) -> Any:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=begin, eos_token=end)
    tokenizer.chat_template = template
    return tokenizer
