"""Decoders with experts, with layers other than attention, and of the older kinds."""

from __future__ import annotations

from functools import partial

from transformers import XGLMTokenizer

from tests.families import vocabulary
from tests.families.family import NOT_SET, Family, template
from tests.families.language_parts import decoder, full_and_sliding

QWEN_STOPS = ("<|im_end|>", "<|endoftext|>")
ROLES = ("<|user|>", "<|assistant|>", "<|system|>")
CHATML_TURN = ("<|im_start|>", "<|im_end|>")
HARMONY = ("<|start|>", "<|message|>", "<|channel|>", "<|end|>", "<|call|>", "<|endoftext|>")
DEEPSEEK = ("<｜User｜>", "<｜Assistant｜>")
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
LINEAR_ATTENTION = {
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
OLD_GPT = {"max_position_embeddings": 256}
qwen_tokens = partial(vocabulary.qwen, "<think>", "</think>")
no_start = partial(vocabulary.llama3, bos=None)
end_of_text = partial(no_start, eos="<|endoftext|>")

OTHERS = {
    "starcoder2": Family(decoder("starcoder2", sliding_window=8), vocabulary.gpt2),
    "mixtral": Family(
        decoder("mixtral", num_local_experts=4, num_experts_per_tok=2),
        vocabulary.mistral,
        template("mistral"),
    ),
    "qwen2_moe": Family(
        decoder("qwen2_moe", **EXPERTS, shared_expert_intermediate_size=32, mlp_only_layers=[0]),
        vocabulary.qwen,
        template("qwen2"),
        stops=QWEN_STOPS,
    ),
    "qwen3_moe": Family(
        decoder("qwen3_moe", **EXPERTS), qwen_tokens, template("qwen3"), stops=QWEN_STOPS
    ),
    "gpt_oss": Family(
        decoder(
            "gpt_oss",
            num_local_experts=4,
            num_experts_per_tok=2,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            **full_and_sliding(),
        ),
        partial(no_start, *HARMONY, eos="<|return|>"),
        template("gpt_oss"),
        stops=("<|return|>", "<|endoftext|>", "<|call|>"),
    ),
    "deepseek_v3": Family(
        decoder(
            "deepseek_v3",
            num_key_value_heads=4,
            head_dim=4,
            q_lora_rank=12,
            kv_lora_rank=16,
            qk_rope_head_dim=4,
            qk_nope_head_dim=8,
            v_head_dim=8,
            n_routed_experts=4,
            n_group=2,
            topk_group=1,
            num_experts_per_tok=2,
            moe_intermediate_size=24,
            first_k_dense_replace=1,
        ),
        partial(
            vocabulary.llama3, *DEEPSEEK, bos="<｜begin▁of▁sentence｜>", eos="<｜end▁of▁sentence｜>"
        ),
        template("deepseek_v3"),
    ),
    "gpt2": Family(decoder("gpt2", n_inner=64, **OLD_GPT), vocabulary.gpt2),
    "gpt_neox": Family(decoder("gpt_neox", rotary_pct=0.5), vocabulary.neox),
    "falcon": Family(
        decoder(
            "falcon", head_dim=NOT_SET, num_kv_heads=2, new_decoder_architecture=True, alibi=False
        ),
        end_of_text,
        template("falcon"),
    ),
    "falcon_alibi": Family(
        decoder(
            "falcon",
            head_dim=NOT_SET,
            new_decoder_architecture=False,
            multi_query=False,
            alibi=True,
            bias=True,
            parallel_attn=False,
        ),
        end_of_text,
    ),
    "opt": Family(
        decoder("opt", ffn_dim=64, word_embed_proj_dim=32, **OLD_GPT),
        partial(
            vocabulary.gpt2,
            "</s>",
            "<pad>",
            bos_token="</s>",
            eos_token="</s>",
            unk_token="</s>",
            pad_token="<pad>",
            add_bos_token=True,
        ),
    ),
    "bloom": Family(decoder("bloom"), partial(no_start, "<s>", "<unk>", "<pad>", eos="</s>")),
    "lfm2": Family(
        decoder(
            "lfm2",
            num_hidden_layers=4,
            layer_types=["conv", "full_attention"] * 2,
            block_auto_adjust_ff_dim=False,
        ),
        partial(vocabulary.llama3, *CHATML_TURN, bos="<|startoftext|>", eos="<|im_end|>"),
        template("lfm2"),
    ),
    "jamba": Family(
        decoder(
            "jamba",
            num_hidden_layers=4,
            attn_layer_period=2,
            attn_layer_offset=1,
            expert_layer_period=2,
            expert_layer_offset=1,
            num_experts=4,
            num_experts_per_tok=2,
            mamba_d_state=4,
            mamba_dt_rank=4,
            use_mamba_kernels=False,
        ),
        partial(
            vocabulary.llama3,
            "<|bom|>",
            "<|eom|>",
            *ROLES,
            bos="<|startoftext|>",
            eos="<|endoftext|>",
        ),
        template("jamba"),
        stops=("<|endoftext|>", "<|eom|>"),
    ),
    "mamba": Family(decoder("mamba", head_dim=NOT_SET, state_size=4), vocabulary.neox),
    "mamba2": Family(
        decoder("mamba2", head_dim=16, num_heads=4, state_size=8, n_groups=1), vocabulary.neox
    ),
    "falcon_mamba": Family(
        decoder("falcon_mamba", head_dim=NOT_SET, state_size=4),
        partial(end_of_text, *CHATML_TURN),
        template("qwen2"),
    ),
    "qwen3_next": Family(
        decoder(
            "qwen3_next",
            num_hidden_layers=4,
            layer_types=["linear_attention", "full_attention"] * 2,
            head_dim=16,
            shared_expert_intermediate_size=24,
            partial_rotary_factor=0.5,
            **EXPERTS,
            **LINEAR_ATTENTION,
        ),
        qwen_tokens,
        template("qwen2"),
        stops=QWEN_STOPS,
    ),
    "granitemoehybrid": Family(
        decoder(
            "granitemoehybrid",
            num_hidden_layers=4,
            layer_types=["mamba", "attention"] * 2,
            num_local_experts=4,
            num_experts_per_tok=2,
            shared_intermediate_size=32,
            mamba_n_heads=4,
            mamba_d_head=16,
            mamba_d_state=8,
            mamba_expand=2,
            mamba_n_groups=1,
            position_embedding_type="nope",
        ),
        partial(end_of_text, "<|start_of_role|>", "<|end_of_role|>", eos="<|end_of_text|>"),
        template("granite"),
    ),
    "xglm": Family(
        decoder(
            "xglm",
            d_model=32,
            ffn_dim=64,
            attention_heads=4,
            num_layers=3,
            max_position_embeddings=256,
        ),
        partial(vocabulary.letters, "<s>", "<pad>", "</s>", "<unk>", kind=XGLMTokenizer),
    ),
    "mpt": Family(decoder("mpt", d_model=32, n_heads=4, n_layers=3), vocabulary.neox),
}
