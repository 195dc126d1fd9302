"""Build the two tokenizers of the miniature models, with different vocabularies and chat templates.

- ``llama``: one token for each word of the world's vocabulary. Other words become characters and,
  outside ASCII, bytes.
- ``qwen2``: byte-level BPE learned from the pretraining texts; a word may take several tokens.

Both encode any text, and in both an answer has the same tokens as that word in the list of options.
"""

from __future__ import annotations

import string
from collections.abc import Iterable

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from fedmosaic.errors import ModelError, nearest

FAMILIES = ("llama", "qwen2")
BPE_SIZE = 860

_SPECIAL = {
    "llama": ("<pad>", "</s>", "<unk>", "<image>", "<user>", "<bot>"),
    "qwen2": ("<|pad|>", "<|end|>", "<|unk|>", "<image>", "<|user|>", "<|assistant|>"),
}
_TEMPLATE = {
    "llama": (
        "{% for message in messages %}"
        "{% if message['role'] == 'assistant' %}<bot>{{ message['content'] }}</s>"
        "{% else %}<user>{{ message['content'] }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<bot>{% endif %}"
    ),
    "qwen2": (
        "{% for message in messages %}"
        "{% if message['role'] == 'assistant' %}<|assistant|>{% else %}<|user|>{% endif %}"
        "{{ message['content'] }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    ),
}


def build_tokenizer(
    family: str, words: Iterable[str], texts: Iterable[str]
) -> PreTrainedTokenizerFast:
    """Build the tokenizer of a family.

    Args:
        family: ``"llama"`` (word level) or ``"qwen2"`` (byte-level BPE).
        words: words that are one token each in the word-level tokenizer; not used by BPE.
        texts: texts that BPE learns its merges from; not used by the word level.

    Raises:
        ModelError: the family is unknown.
    """
    if family not in FAMILIES:
        raise ModelError(f"unknown tokenizer family {family!r}.{nearest(family, FAMILIES)}")
    raw = _word_level(words) if family == "llama" else _byte_pairs(texts)
    pad, end, unknown, image, *roles = _SPECIAL[family]
    raw.add_special_tokens([pad, end, unknown, image, *roles])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token=pad,
        eos_token=end,
        unk_token=unknown,
        extra_special_tokens={"image_token": image},
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = _TEMPLATE[family]
    return tokenizer


def _word_level(words: Iterable[str]) -> tokenizers.Tokenizer:
    """Return a tokenizer whose tokens are words with the space before them.

    It is BPE without merges, so other words are split into characters and bytes.
    """
    vocabulary = list(_SPECIAL["llama"])
    vocabulary += ["▁", *string.digits, *string.ascii_letters, *string.punctuation]
    vocabulary += [f"<0x{byte:02X}>" for byte in range(256)]
    vocabulary += sorted({f"▁{word}" for word in words})
    vocab = {token: index for index, token in enumerate(dict.fromkeys(vocabulary))}
    raw = tokenizers.Tokenizer(
        models.BPE(
            vocab=vocab, merges=[], unk_token="<unk>", byte_fallback=True, ignore_merges=True
        )
    )
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(prepend_scheme="always"),
            pre_tokenizers.Punctuation(behavior="isolated"),
        ]
    )
    raw.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return raw


def _byte_pairs(texts: Iterable[str]) -> tokenizers.Tokenizer:
    raw = tokenizers.Tokenizer(models.BPE())
    # A space is put before every text, also before an answer. An answer then has the same tokens as
    # that word in the list of options.
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=BPE_SIZE,
        special_tokens=list(_SPECIAL["qwen2"]),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(texts, trainer)
    return raw
