"""Make two tokenizers of the same text, and a model that uses twice as many tokens as another.

Words are invented, of two syllables that no other word has: ``bada``, ``bede``, … One tokenizer has
words as tokens, the other syllables. Both syllables have the embedding of their word, and positions
count half. Each token therefore attends to the same things as its word does, only twice. The head's
row of a word is that of its first syllable.
"""

from __future__ import annotations

import copy
from itertools import product
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from fedmosaic.data import Example, Turn
from fedmosaic.models.backbone import Backbone
from fedmosaic.seeding import rng

SPECIAL = ("<pad>", "</s>")
SYLLABLES = ["".join(pair) for pair in product("bdfghjklmnprstvz", "aeiou")]
WORDS = [one + two for one, two in zip(SYLLABLES[::2], SYLLABLES[1::2], strict=True)]
MARK, *CONTENT_WORDS = WORDS
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }} {% else %}"
    + MARK
    + " {{ m['content'] }}</s>{% endif %}{% endfor %}{% if add_generation_prompt %}"
    + MARK
    + " {% endif %}"
)


def tokenizer(tokens: list[str], pieces: str) -> Any:
    raw = Tokenizer(
        WordLevel(
            {token: index for index, token in enumerate((*SPECIAL, *tokens))}, unk_token="<pad>"
        )
    )
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(pieces), "isolated")]
    )
    raw.add_special_tokens(list(SPECIAL))
    made = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="</s>")
    made.chat_template = TEMPLATE
    return made


def word_model(layers: int = 4, scale: float = 0.15) -> Backbone:
    """Make a random language model of words."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(SPECIAL) + len(WORDS), hidden_size=64, intermediate_size=96,
        num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=128, initializer_range=scale,
        pad_token_id=0, eos_token_id=1, bos_token_id=None, tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    return Backbone("words", model, tokenizer(WORDS, "[a-z]{4}"))


def syllable_model(words: Backbone) -> Backbone:
    """Make nearly the same function of syllables; ``words`` may be a twin of the word model."""
    config = copy.deepcopy(words.model.config)
    config.vocab_size = len(SPECIAL) + len(SYLLABLES)
    config.rope_parameters = {**config.rope_parameters, "rope_type": "linear", "factor": 2.0}
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    state = dict(words.model.state_dict())
    syllable_of = torch.arange(len(SPECIAL), config.vocab_size)
    rows = torch.cat((torch.arange(len(SPECIAL)), len(SPECIAL) + (syllable_of - len(SPECIAL)) // 2))
    state["model.embed_tokens.weight"] = state["model.embed_tokens.weight"][rows]
    head = state["lm_head.weight"][rows].clone()
    head[len(SPECIAL) + 1 :: 2] = 0
    state["lm_head.weight"] = head
    model.load_state_dict(state)
    return Backbone("syllables", model, tokenizer(SYLLABLES, "[a-z]{2}"))


def sentences(count: int, seed: int = 0) -> list[Example]:
    """Draw questions of random words, answered by a random word."""
    examples = []
    for index in range(count):
        draw = rng("syllables", seed, index)
        *asked, answer = (
            CONTENT_WORDS[int(k)]
            for k in draw.integers(len(CONTENT_WORDS), size=int(draw.integers(7, 14)))
        )
        examples.append(
            Example(f"{seed}/{index}", (Turn("user", " ".join(asked)), Turn("assistant", answer)))
        )
    return examples


@torch.no_grad()
def word_logits(backbone: Backbone, example: Example, model: Any = None) -> Tensor:
    """Return the logits of all words after each word, [words, vocabulary of words]."""
    ids = torch.tensor([backbone.encode(example, answer=False).input_ids])
    logits: Tensor = (backbone.model if model is None else model)(input_ids=ids).logits[
        0, :, len(SPECIAL) :
    ]
    return (
        logits if backbone.name == "words" or logits.shape[-1] == len(WORDS) else logits[1::2, ::2]
    )
