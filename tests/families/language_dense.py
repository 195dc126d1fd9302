"""Dense decoders as most families have them: rotary positions and gated layers."""

from __future__ import annotations

from functools import partial

from tests.families import vocabulary
from tests.families.family import Family, template
from tests.families.language_parts import decoder, full_and_sliding

GEMMA_TURN = ("<start_of_turn>", "<end_of_turn>")
GEMMA_STOPS = ("<eos>", "<end_of_turn>")
QWEN_STOPS = ("<|im_end|>", "<|endoftext|>")
LLAMA3_TURN = ("<|start_header_id|>", "<|end_header_id|>", "<|end_of_text|>", "<|eom_id|>")
ROLES = ("<|user|>", "<|assistant|>", "<|system|>")
CHATML_TURN = ("<|im_start|>", "<|im_end|>")
HUNYUAN = ("<｜hy_User｜>", "<｜hy_Assistant｜>", "<｜hy_place▁holder▁no▁3｜>")
GLM_STOPS = ("<|endoftext|>", "<|user|>")
gemma_tokens = partial(vocabulary.gemma, *GEMMA_TURN)
qwen_tokens = partial(vocabulary.qwen, "<think>", "</think>")
no_start = partial(vocabulary.llama3, bos=None)
end_of_text = partial(no_start, eos="<|endoftext|>")
glm_tokens = partial(end_of_text, "[gMASK]", "<sop>", *ROLES)

DENSE = {
    "llama": Family(
        decoder("llama"),
        partial(vocabulary.llama3, *LLAMA3_TURN),
        template("llama3"),
        stops=("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
    ),
    "mistral": Family(
        decoder("mistral", sliding_window=8), vocabulary.mistral, template("mistral")
    ),
    "qwen2": Family(
        decoder("qwen2", tie_word_embeddings=True),
        vocabulary.qwen,
        template("qwen2"),
        stops=QWEN_STOPS,
    ),
    "qwen3": Family(decoder("qwen3"), qwen_tokens, template("qwen3"), stops=QWEN_STOPS),
    "gemma": Family(decoder("gemma"), gemma_tokens, template("gemma"), stops=GEMMA_STOPS),
    "gemma2": Family(
        decoder(
            "gemma2",
            query_pre_attn_scalar=8,
            attn_logit_softcapping=5.0,
            final_logit_softcapping=3.0,
            **full_and_sliding(),
        ),
        gemma_tokens,
        template("gemma"),
        stops=GEMMA_STOPS,
    ),
    "gemma3_text": Family(
        decoder("gemma3_text", query_pre_attn_scalar=8, **full_and_sliding()),
        gemma_tokens,
        template("gemma3"),
        stops=GEMMA_STOPS,
    ),
    "gemma3n_text": Family(
        decoder(
            "gemma3n_text",
            num_hidden_layers=4,
            intermediate_size=[48] * 4,
            vocab_size_per_layer_input=512,
            hidden_size_per_layer_input=8,
            num_kv_shared_layers=2,
            laurel_rank=4,
            altup_num_inputs=2,
            activation_sparsity_pattern=[0.5, 0.0, 0.0, 0.0],
            **full_and_sliding(4),
        ),
        gemma_tokens,
        template("gemma3"),
        stops=GEMMA_STOPS,
    ),
    "gemma4_text": Family(
        decoder(
            "gemma4_text",
            num_hidden_layers=4,
            global_head_dim=16,
            vocab_size_per_layer_input=512,
            hidden_size_per_layer_input=8,
            num_kv_shared_layers=2,
            **full_and_sliding(4),
        ),
        partial(vocabulary.gemma, "<|turn>", "<turn|>"),
        template("gemma4"),
        stops=("<eos>", "<turn|>"),
    ),
    "phi": Family(decoder("phi", partial_rotary_factor=0.5), vocabulary.gpt2),
    "phi3": Family(
        decoder("phi3", sliding_window=8),
        partial(
            vocabulary.mistral,
            *ROLES,
            "<|end|>",
            "<|endoftext|>",
            eos_token="<|endoftext|>",
            pad_token="<|endoftext|>",
            add_bos_token=False,
        ),
        template("phi3"),
        stops=("<|endoftext|>", "<|end|>"),
    ),
    "phi4": Family(
        decoder(
            "phi3",
            original_max_position_embeddings=64,
            rope_parameters={
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "partial_rotary_factor": 0.5,
                "original_max_position_embeddings": 64,
                "short_factor": [1.0, 1.2],
                "long_factor": [1.5, 2.0],
            },
        ),
        partial(no_start, *CHATML_TURN, "<|im_sep|>", "<|endoftext|>", eos="<|im_end|>"),
        template("phi4"),
        stops=("<|im_end|>", "<|endoftext|>"),
    ),
    "olmo2": Family(decoder("olmo2"), partial(vocabulary.gpt2, *ROLES), template("olmo2")),
    "olmo3": Family(
        decoder("olmo3", **full_and_sliding()), partial(vocabulary.qwen), template("qwen2")
    ),
    "granite": Family(
        decoder(
            "granite",
            embedding_multiplier=4.0,
            attention_multiplier=0.3,
            residual_multiplier=0.5,
            logits_scaling=2.0,
        ),
        partial(end_of_text, "<|start_of_role|>", "<|end_of_role|>", eos="<|end_of_text|>"),
        template("granite"),
    ),
    "smollm3": Family(
        decoder("smollm3", no_rope_layers=[1, 1, 0], no_rope_layer_interval=3),
        partial(no_start, *CHATML_TURN, "<|end_of_text|>", "<think>", "</think>", eos="<|im_end|>"),
        template("smollm3"),
    ),
    "cohere": Family(
        decoder("cohere", use_qk_norm=True, logit_scale=0.25),
        vocabulary.cohere,
        template("cohere"),
    ),
    "cohere2": Family(
        decoder("cohere2", logit_scale=0.5, **full_and_sliding()),
        vocabulary.cohere,
        template("cohere"),
    ),
    "glm": Family(
        decoder("glm", partial_rotary_factor=0.5), glm_tokens, template("glm"), stops=GLM_STOPS
    ),
    "glm4": Family(
        decoder("glm4", partial_rotary_factor=0.5), glm_tokens, template("glm"), stops=GLM_STOPS
    ),
    "hunyuan_v1_dense": Family(
        decoder("hunyuan_v1_dense"),
        partial(
            vocabulary.llama3,
            *HUNYUAN,
            bos="<｜hy_begin▁of▁sentence｜>",
            eos="<｜hy_place▁holder▁no▁2｜>",
        ),
        template("hunyuan"),
    ),
    "stablelm": Family(
        decoder("stablelm", partial_rotary_factor=0.5),
        partial(end_of_text, *ROLES),
        template("stablelm"),
    ),
}
