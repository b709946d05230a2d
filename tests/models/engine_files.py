"""GGUF files as PowerInfer's converters write them, made here without the package's own writer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

LLAMA = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers": "blk",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down_t",
}
_FALCON = {
    "transformer.word_embeddings": "token_embd",
    "transformer.ln_f": "output_norm",
    "lm_head": "output",
    "transformer.h": "blk",
    "input_layernorm": "attn_norm",
    "ln_mlp": "attn_norm",
    "ln_attn": "attn_norm_2",
    "self_attention.query_key_value": "attn_qkv",
    "self_attention.dense": "attn_output",
    "mlp.dense_h_to_4h": "ffn_up",
    "mlp.dense_4h_to_h": "ffn_down_t",
}
_OPT = {
    "model.decoder.layers": "blk",
    "model.decoder.embed_tokens": "token_embd",
    "model.decoder.embed_positions": "position_embd",
    "model.decoder.final_layer_norm": "output_norm",
    "lm_head": "output",
    "self_attn_layer_norm": "attn_norm",
    "final_layer_norm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.out_proj": "attn_output",
    "fc1": "ffn_up",
    "fc2": "ffn_down_t",
}
_NAMES = {"llama": LLAMA, "bamboo": LLAMA, "falcon": _FALCON, "opt": _OPT}
RANK = 32

Change = Callable[[dict[str, Any]], None]


def predictors(model: Any, seed: int = 5) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
    """Random ones that float16 holds exactly, by layer."""
    config = model.config
    neurons = getattr(config, "intermediate_size", None) or getattr(config, "ffn_dim", None)
    neurons = getattr(config, "ffn_hidden_size", None) or neurons
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).half().float()

    count, hidden = config.num_hidden_layers, config.hidden_size
    return {n: (drawn(RANK, hidden), drawn(neurons, RANK)) for n in range(count)}


def write_engine_file(
    path: Path,
    model: Any,
    architecture: str,
    *,
    kind: str = "F32",
    threshold: float | None = None,
    magic: bytes = b"PWRI",
    tokenizer: str = "gpt2",
    tensors: Change = lambda _: None,
    keys: Change = lambda _: None,
) -> Path:
    """Write ``model`` of transformers with random predictors.

    Args:
        kind: type of the matrices.
        tensors, keys: change what is written, in place; values are what the writer adds.
    """
    config = model.config
    heads = config.num_attention_heads
    kv = getattr(config, "num_key_value_heads", None) or getattr(config, "num_kv_heads", heads)
    stored: dict[str, Any] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if architecture == "opt" and name.startswith("lm_head"):
            continue
        matrix = parameter.detach().float().numpy()
        if "query_key_value" in name:
            width = config.hidden_size // heads
            groups = matrix.reshape(kv, heads // kv + 2, width, -1)
            parts = groups[:, :-2], groups[:, [-2]], groups[:, [-1]]
            matrix = np.concatenate([p.reshape(-1, config.hidden_size) for p in parts])
        if architecture in ("llama", "bamboo") and (".q_proj" in name or ".k_proj" in name):
            n = heads if ".q_proj" in name else kv
            rows = matrix.reshape(n, 2, matrix.shape[0] // n // 2, -1)
            matrix = rows.swapaxes(1, 2).reshape(matrix.shape)
        for theirs, ours in _NAMES[architecture].items():
            name = name.replace(theirs, ours)
        stored[name] = matrix.T if name.endswith("ffn_down_t.weight") else matrix
    for layer, pair in predictors(model).items():
        for number, matrix in enumerate(pair, 1):
            stored[f"blk.{layer}.fc{number}.weight"] = matrix.numpy()
    settings: dict[str, Any] = {
        "context_length": config.max_position_embeddings + (2 if architecture == "opt" else 0),
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": len(stored["blk.0.ffn_down_t.weight"]),
        "attention.head_count": heads,
        "attention.head_count_kv": kv,
    }
    if architecture in ("llama", "bamboo"):
        settings["attention.layer_norm_rms_epsilon"] = float(config.rms_norm_eps)
        rope = getattr(config, "rope_parameters", None) or {"rope_theta": config.rope_theta}
        settings["rope.freq_base"] = float(rope["rope_theta"])
    elif architecture == "falcon":
        settings["attention.layer_norm_epsilon"] = float(config.layer_norm_epsilon)
    if threshold is not None:
        settings["powerinfer.sparse_threshold"] = threshold
    tensors(stored)
    keys(settings)
    writer = gguf.GGUFWriter(path, settings.pop("architecture", architecture))
    for key, value in settings.items():
        whole = key if key.startswith("powerinfer") else f"{architecture}.{key}"
        {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}[type(value)](
            whole, value
        )
    _TOKENIZERS[tokenizer](writer, config.vocab_size)
    for name, matrix in stored.items():
        matrix = np.ascontiguousarray(matrix, dtype=np.float32)
        if matrix.ndim == 1 or kind == "F32":
            writer.add_tensor(name, matrix)
        else:
            number = gguf.GGMLQuantizationType[kind]
            packed = gguf.quants.quantize(matrix, number)
            writer.add_tensor(name, packed, raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with path.open("r+b") as stream:
        stream.write(magic)
    return path


def _bytes_tokenizer(writer: gguf.GGUFWriter, size: int) -> None:
    from pytest_sparsity.models.tiny import tiny_tokenizer

    vocabulary = tiny_tokenizer().get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    # Pairs that are put together, so that the file has merges, as the engine wants: two of them,
    # since transformers 4 takes a list of one for its element.
    tokens[254:256] = "qz", "he"
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens[:size])
    writer.add_token_types([1] * (size - 1) + [3])
    writer.add_token_merges(["h e", "q z"])
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(256)


def _sentencepiece(writer: gguf.GGUFWriter, size: int) -> None:
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(200))]
    tokens += [*"▁abcdefghijklmnopqrstuvwxyz.,", "▁t", "he", "▁the"]
    tokens += [f"[PAD{n}]" for n in range(len(tokens), size)]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(n) for n in range(size)])
    writer.add_token_types([2, 3, 3] + [6] * 200 + [1] * (size - 203))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


_TOKENIZERS = {"gpt2": _bytes_tokenizer, "llama": _sentencepiece}
