"""Tiny tokenizers of the kinds that families use, trained on a few sentences."""

from __future__ import annotations

import json
from functools import cache

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import (
    CohereTokenizer,
    GemmaTokenizer,
    GPT2Tokenizer,
    GPTNeoXTokenizer,
    LlamaTokenizer,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
)

SENTENCES = (
    "What colour is the square in the first picture? The square is red and the circle is blue.",
    "Answer with the option's letter from the given choices directly. A. yes B. no C. maybe",
    "How many shapes are there? There are two shapes, one above the other, and three lines.",
    "You are a helpful assistant. Look at the images and describe what you see in a few words.",
    "red blue green yellow red blue green yellow red blue green yellow black white grey",
    "user assistant system model User Assistant: USER: ASSISTANT: 0 1 2 3 4 5 6 7 8 9 10 12 24",
)
PIECES = 360


@cache
def byte_level_pieces() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return the vocabulary and merges of byte-level BPE."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return _train(tokenizer, BpeTrainer(vocab_size=PIECES, initial_alphabet=alphabet))


@cache
def metaspace_pieces() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return the vocabulary and merges of SentencePiece-like BPE; bytes stand for the unknown."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    vocabulary, merges = _train(tokenizer, BpeTrainer(vocab_size=PIECES - 150))
    rest = [*(f"<0x{byte:02X}>" for byte in range(256)), *vocabulary]
    return {piece: index for index, piece in enumerate(rest)}, merges


def _train(
    tokenizer: Tokenizer, trainer: BpeTrainer
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    tokenizer.train_from_iterator(SENTENCES, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def with_first(
    pieces: tuple[dict[str, int], list[tuple[str, str]]], first: tuple[str, ...]
) -> dict[str, object]:
    """Return vocabulary and merges where the special tokens ``first`` have the lowest ids."""
    vocabulary = {piece: index for index, piece in enumerate([*first, *pieces[0]])}
    return {"vocab": vocabulary, "merges": pieces[1]}


def finish(
    tokenizer: PreTrainedTokenizerFast, first: tuple[str, ...], last: tuple[str, ...]
) -> PreTrainedTokenizerFast:
    """Mark the special tokens as such; those of ``last`` get the highest ids."""
    special = [AddedToken(token, special=True, normalized=False) for token in (*first, *last)]
    tokenizer.add_tokens(special, special_tokens=True)
    return tokenizer


def qwen(*last: str, eos: str = "<|im_end|>", **options: object) -> PreTrainedTokenizerFast:
    """Return Qwen's tokenizer: byte-level, no token at the start."""
    last = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *last)
    tokenizer = Qwen2Tokenizer(
        **with_first(byte_level_pieces(), ()), eos_token=eos, pad_token="<|endoftext|>", **options
    )
    return finish(tokenizer, (), last)


def gpt2(
    *last: str, kind: type[PreTrainedTokenizerFast] = GPT2Tokenizer, **options: object
) -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer of GPT-2 or GPT-NeoX; ``<|endoftext|>`` starts and ends."""
    first = ("<|endoftext|>",)
    pieces = with_first(byte_level_pieces(), first)
    return finish(kind(**pieces, **{"pad_token": "<|endoftext|>", **options}), first, last)


def neox(*last: str, **options: object) -> PreTrainedTokenizerFast:
    """Return GPT-NeoX's tokenizer."""
    return gpt2("<|padding|>", *last, kind=GPTNeoXTokenizer, pad_token="<|padding|>", **options)


def cohere(*last: str, **options: object) -> PreTrainedTokenizerFast:
    """Return Cohere's tokenizer: byte-level, with a token at the start."""
    first = ("<PAD>", "<UNK>", "<CLS>", "<SEP>", "<MASK_TOKEN>", "<BOS_TOKEN>", "<EOS_TOKEN>")
    turn = ("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>")
    roles = ("<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>")
    tokenizer = CohereTokenizer(
        **with_first(byte_level_pieces(), first),
        eos_token="<|END_OF_TURN_TOKEN|>",
        add_bos_token=True,
        **options,
    )
    return finish(tokenizer, first, (*turn, *roles, *last))


def gemma(*last: str, **options: object) -> PreTrainedTokenizerFast:
    """Return Gemma's tokenizer: SentencePiece-like without a leading blank."""
    first = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")
    tokenizer = GemmaTokenizer(
        **with_first(metaspace_pieces(), first), add_bos_token=True, **options
    )
    return finish(tokenizer, first, last)


def mistral(*last: str, **options: object) -> PreTrainedTokenizerFast:
    """Return the tokenizer of Llama 2 and Mistral: a leading blank at the start only."""
    first = ("<unk>", "<s>", "</s>")
    pieces = with_first(metaspace_pieces(), first)
    settings = {"add_bos_token": True, "pad_token": "</s>", **options}
    return finish(LlamaTokenizer(**pieces, **settings), first, last)


def vicuna(*last: str, **options: object) -> PreTrainedTokenizerFast:
    """Return Llama 2's tokenizer as Vicuna has it: a blank before each piece between tokens."""
    first = ("<unk>", "<s>", "</s>")
    model = BPE(**with_first(metaspace_pieces(), first), unk_token="<unk>", byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return _fast(tokenizer, first, last, bos="<s>", eos="</s>", unk_token="<unk>", **options)


def llama3(
    *last: str, bos: str | None = "<|begin_of_text|>", eos: str = "<|eot_id|>", **options: object
) -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer that puts ``bos`` before every text, as Llama 3's does."""
    tokenizer = Tokenizer(BPE(**with_first(byte_level_pieces(), ())))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    start = () if bos is None else (bos,)
    return _fast(tokenizer, (), (*start, eos, *last), bos=bos, eos=eos, **options)


def _fast(
    tokenizer: Tokenizer,
    first: tuple[str, ...],
    last: tuple[str, ...],
    *,
    bos: str | None,
    eos: str,
    **options: object,
) -> PreTrainedTokenizerFast:
    last = tuple(dict.fromkeys(last))
    named = {"bos_token": bos, "eos_token": eos, "pad_token": eos}
    settings = {"add_bos_token": bos is not None, **named, **options}
    return finish(PreTrainedTokenizerFast(tokenizer_object=tokenizer, **settings), first, last)


def letters(
    *first: str, kind: type[PreTrainedTokenizerFast], **options: object
) -> PreTrainedTokenizerFast:
    """Return a unigram tokenizer of single characters, as XGLM's and T5's are of pieces."""
    characters = sorted({*"".join(SENTENCES), "▁"} - {" "})
    pieces = [(token, 0.0) for token in first] + [(letter, -1.0) for letter in characters]
    return finish(kind(vocab=pieces, **options), first, ())
