"""How large what a configuration counts is in a shrunk twin, by the names that transformers uses.

A size that divides the one here stays, so that what is one, such as the groups of keys, is one in
the twin.  Names that are not here stay as they are: switches, multipliers, activations, widths of
convolutions, angles.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

#: Width of the residual stream; everything else is made to fit it.
HIDDEN = 64
#: Heads of attention, and the width of one: together ``HIDDEN``.
HEADS, HEAD = 4, 16
#: What a recurrent layer computes in: twice the stream, as eight heads of ``HEAD``.
INNER = 2 * HIDDEN

_LARGEST: tuple[tuple[int, str], ...] = (
    # the stream, and what is added to it
    (
        HIDDEN,
        "hidden_size d_model n_embd dim_model emb_dim embedding_dim embedding_size lru_width "
        "hidden_size_global backbone_hidden_size attention_hidden_size output_embedding_size "
        "word_embed_proj_dim output_dim ple_embed_dim adapter_in_dim adapter_out_dim "
        "adapter_input_size",
    ),
    # attention and linear attention
    (
        HEADS,
        "num_attention_heads n_head n_heads num_heads attention_heads swa_num_attention_heads "
        "decoder_attention_heads encoder_attention_heads num_decoder_attention_heads "
        "num_encoder_attention_heads linear_num_heads linear_num_value_heads index_n_heads "
        "indexer_n_heads num_query_groups",
    ),
    (
        2,
        "num_key_value_heads num_kv_heads kv_n_heads swa_num_key_value_heads linear_num_key_heads "
        "indexer_kv_heads o_groups",
    ),
    (
        HEAD,
        "head_dim swa_head_dim d_head dim_head attention_head_size linear_head_dim v_head_dim "
        "linear_key_head_dim linear_value_head_dim qk_nope_head_dim index_head_dim "
        "indexer_head_dim kv_channels kv_lora_rank o_lora_rank gated_norm_rank hc_lowrank "
        "laurel_rank adapter_rank hidden_size_per_layer_input router_hidden_size d_rel",
    ),
    (8, "qk_rope_head_dim rotary_dim"),
    (24, "q_lora_rank"),
    (4, "index_topk index_topk_blocks index_block_size indexer_compress_ratio"),
    # Shorter than the texts of tests, so that what a layer cannot see counts.
    (
        16,
        "sliding_window sliding_window_size attention_window_size window_size local_attention "
        "attention_chunk_size local_attn_chunk_length lsh_attn_chunk_length keep_window_size "
        "local_attention_window_len indexer_budget rel_extent block_size",
    ),
    # feed-forward layers and experts
    (
        96,
        "intermediate_size ffn_dim ffn_hidden_size n_inner dff dim_ff feed_forward_size "
        "decoder_ffn_dim encoder_ffn_dim intermediate_size_mlp dense_intermediate_size "
        "prefix_dense_intermediate_size mlp_dim",
    ),
    (
        48,
        "moe_intermediate_size shared_expert_intermediate_size shared_intermediate_size "
        "expert_ffn_hidden_size moe_shared_expert_intermediate_size moe_latent_size "
        "shared_experts_intermediate_size",
    ),
    (8, "num_experts n_routed_experts num_local_experts moe_num_experts"),
    (
        2,
        "num_experts_per_tok num_experts_per_token moe_topk moe_k moe_top_k top_k_experts n_group "
        "num_expert_group n_shared_experts num_shared_experts moe_num_shared_experts "
        "zero_expert_num",
    ),
    (1, "topk_group"),
    (8, "block_multiple_of ffn_round_up_to_multiple_of"),
    # recurrent layers
    (HEAD, "mamba_d_state state_size ssm_state_size mamba_d_head mamba_head_dim mamba_headdim"),
    (8, "mamba_n_heads mamba_num_heads n_mamba_heads chunk_size mamba_chunk_size"),
    (2, "n_groups mamba_n_groups mamba_ngroups"),
    (4, "time_step_rank mamba_dt_rank"),
    (INNER, "mamba_d_ssm"),
    # tables
    (4096, "max_position_embeddings n_positions n_ctx max_seq_len context_length model_max_length"),
    (256, "encoder_hash_byte_group_vocab ngram_vocab_size_base decoder_vocab_size"),
    (4, "make_ngram_vocab_size_divisible_by split_ngram_parts heads_per_ngram hc_count"),
)

#: Name -> the value that a twin has of it, or a divisor of that.
LARGEST: Mapping[str, int] = MappingProxyType(
    {name: size for size, names in _LARGEST for name in names.split()}
)

#: How many groups keys and values have -> how many heads ask, for the heads of one kind.
GROUPED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "num_key_value_heads": ("num_attention_heads", "n_heads", "n_head"),
        "num_kv_heads": ("num_attention_heads",),
        "swa_num_key_value_heads": ("swa_num_attention_heads",),
        "linear_num_key_heads": ("linear_num_value_heads",),
        "num_query_groups": ("num_attention_heads",),
    }
)

#: model_type -> what its sizes have to be beside that, and why.
OWN_SIZES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        # heads x their width = what the recurrent layer computes in
        "mamba": {"intermediate_size": INNER},
        "falcon_mamba": {"intermediate_size": INNER},
        "mamba2": {"num_heads": 8},
        "falcon_h1": {"mamba_d_head": HEAD},
        "bamba": {"mamba_d_head": HEAD},
        # twice the stream wide
        "zamba": {"attention_hidden_size": INNER, "attention_head_dim": INNER // HEADS},
        "zamba2": {"attention_hidden_size": INNER, "attention_head_dim": INNER // HEADS},
        # in a layer of its own, what has no position and what has, together
        "dots3_note_text": {"head_dim": 2 * HEAD + 8},
        # queries are rounded up to 64 channels, of which a state is half as wide as the stream
        "xlstm": {"hidden_size": INNER, "embedding_dim": INNER},
        # layers that stand at every second place, and experts at every second of all
        "jamba": {
            "num_hidden_layers": 4,
            "attn_layer_period": 4,
            "attn_layer_offset": 2,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
        },
        # as many axes as the stream has, in two parts
        "reformer": {"axial_pos_embds_dim": [HEAD, HIDDEN - HEAD]},
    }
)

_QSA = {
    "indexer_n_heads": 16,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 256,
    "indexer_budget": 2048,
    "indexer_compress_ratio": 4,
}

#: model_type -> entries that its class leaves open, as published checkpoints have them:
#: transformers 5.23 does not build, or cannot run, what the bare class gives.
PLAIN: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "bamba": {"attn_layer_indices": [9, 18, 27]},
        "cohere_compass_text": {
            "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}}
        },
        "dbrx": {"attn_config": {"kv_n_heads": 8, "rope_theta": 500000.0, "clip_qkv": 8.0}},
        "deepseek_v2": {"num_experts_per_tok": 6},
        "dots1": {
            "n_routed_experts": 128,
            "n_shared_experts": 2,
            "num_experts_per_tok": 6,
            "first_k_dense_replace": 1,
        },
        "granitemoehybrid": {"layer_types": [*["mamba"] * 7, "attention"] * 4},
        "hunyuan_v1_dense": {"head_dim": 128},
        "hunyuan_v1_moe": {"head_dim": 128, "num_experts": 16},
        "lfm2_moe": {"layer_types": ["conv", "conv", "full_attention", "conv"] * 8},
        "ministral": {"head_dim": 128},
        "nemotron": {"head_dim": 128, "num_key_value_heads": 8},
        "qwen4_exp": {"text_config": _QSA},
        "qwen4_exp_text": _QSA,
        # Its hash functions are drawn anew in every pass otherwise.
        "reformer": {"is_decoder": True, "hash_seed": 0},
    }
)

#: The same, where transformers 4 lacks what later ones have by themselves.
PLAIN_4: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "mllama": {"text_config": {"rope_scaling": {"rope_type": "default"}}},
        "phi4_multimodal": {"vision_config": {}, "audio_config": {}},
    }
)
