"""Families that must be refused: encoder-decoders."""

from __future__ import annotations

from functools import partial

from transformers import AutoConfig, AutoModelForSeq2SeqLM, PreTrainedModel, T5Tokenizer

from tests.families import vocabulary
from tests.families.family import Family, Tokenizer, text_config


def encoder_decoder(kind: str, tokenizer: Tokenizer, **changes: object) -> PreTrainedModel:
    config = text_config(partial(AutoConfig.for_model, kind), tokenizer, **changes)
    return AutoModelForSeq2SeqLM.from_config(config)


REFUSED = {
    "t5": Family(
        partial(
            encoder_decoder, "t5", num_decoder_layers=2, d_kv=8, d_ff=48, decoder_start_token_id=0
        ),
        partial(vocabulary.letters, "<pad>", "</s>", "<unk>", kind=T5Tokenizer, extra_ids=4),
    ),
    "bart": Family(
        partial(
            encoder_decoder,
            "bart",
            encoder_layers=2,
            decoder_layers=2,
            encoder_ffn_dim=48,
            decoder_ffn_dim=48,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            decoder_start_token_id=1,
        ),
        partial(vocabulary.llama3, bos="<s>", eos="</s>"),
    ),
}
