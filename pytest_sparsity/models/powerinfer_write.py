"""Writing PowerInfer's GGUF files; :mod:`pytest_sparsity.models.powerinfer_gguf` reads them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import cannot_write
from pytest_sparsity.models.language_model import LanguageModel
from pytest_sparsity.models.powerinfer_keys import MAGIC
from pytest_sparsity.models.powerinfer_layout import permuted

if TYPE_CHECKING:
    import torch

_BLOCK = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down_t",
}
_OUTSIDE = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
_KINDS = ("arcee", "llama", "mistral")


def write_powerinfer_gguf(
    path: Path,
    model: LanguageModel,
    layers: Mapping[int, tuple[torch.Tensor, torch.Tensor]],
    threshold: float | None,
) -> None:
    """Write ``model`` and predictors of its neurons as PowerInfer's converters do.

    Matrices are stored in float16 and norms in float32.  A model of relu(gate) up is written as
    architecture llama, one of relu(gate) relu(up) as bamboo.  One without a gate (Arcee, such as
    relu-4m) is written as llama without gates, which :func:`.load_model` reads: the stock engine's
    graph would compute it, but its loader wants a gate in every layer.

    The whole tokenizer.json is stored too, under the key that the GGUF specification has for it;
    the engine reads tokens and merges only and cuts text by GPT-2's rules.

    Args:
        path: of the file; replaced if it is there.
        model: a Llama, Mistral or Arcee with ReLU, as it was loaded.
        layers: (fc1 [R, H], fc2 [I, R]) of every layer, of the predictor fc2 relu(fc1 v), v the
            residual stream before the MLP's norm.
        threshold: a neuron is computed if its score is this or more; None leaves it to the
            engine, whose own is 0.

    Raises:
        SparsityError: the model, its tokenizer or the predictors are not what the engine
            computes, or the file cannot be written.
    """
    import gguf

    architecture = _check_model(model)
    _check_predictors(model, layers)
    vocabulary = _vocabulary(model)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        try:
            writer = gguf.GGUFWriter(partial, architecture)
            _add_keys(writer, model, threshold)
            _add_tokenizer(writer, model, vocabulary)
            for name, tensor in _tensors(model, layers):
                writer.add_tensor(name, tensor)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
            with partial.open("r+b") as stream:
                stream.write(MAGIC)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


def _refuse(model: LanguageModel, found: str, fix: str) -> SparsityError:
    return SparsityError(
        f"model {model.name} cannot be written for PowerInfer: {found}, and its engine computes "
        f"none; {fix}"
    )


def _check_model(model: LanguageModel) -> str:
    """The architecture in the engine's words."""
    from pytest_sparsity.models.activations import DReLU

    config: Any = model.model.config
    other = "write a Llama, Mistral or Arcee model with ReLU"
    if config.model_type not in _KINDS:
        raise _refuse(model, f"it is of type {config.model_type!r}", other)
    if config.hidden_act != "relu":
        raise _refuse(model, f"its hidden_act is {config.hidden_act!r}", other)
    width = config.hidden_size // config.num_attention_heads
    if getattr(config, "head_dim", None) not in (None, width):
        heads = f"{config.num_attention_heads} heads of {config.head_dim} channels"
        raise _refuse(model, f"it has {heads} in a stream of {config.hidden_size}", other)
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    if (kind := rope.get("rope_type", rope.get("type", "default"))) != "default":
        raise _refuse(model, f"its rotary angles are scaled by {kind!r}", other)
    known = {*_OUTSIDE, *_block_names(config.num_hidden_layers)}
    for name, parameter in model.model.named_parameters():
        owner, _, leaf = name.rpartition(".")
        if owner not in known or leaf != "weight":
            raise _refuse(model, f"it has the tensor {name}", other)
        if parameter.ndim > 1 and not float(parameter.detach().abs().max()) <= 65504:
            raise SparsityError(
                f"model {model.name} cannot be written for PowerInfer: {name} has values that "
                "float16 cannot hold; write a model whose weights are below 65504"
            )
    drelu = any(isinstance(module, DReLU) for module in model.model.modules())
    return "bamboo" if drelu else "llama"


def _block_names(layers: int) -> dict[str, str]:
    return {
        f"model.layers.{layer}.{ours}": f"blk.{layer}.{theirs}"
        for layer in range(layers)
        for ours, theirs in _BLOCK.items()
    }


def _check_predictors(
    model: LanguageModel, layers: Mapping[int, tuple[torch.Tensor, torch.Tensor]]
) -> None:
    config: Any = model.model.config
    count, hidden, neurons = config.num_hidden_layers, config.hidden_size, config.intermediate_size
    if set(layers) != set(range(count)):
        raise SparsityError(
            f"predictors of the layers {sorted(layers)} were given for model {model.name}, and "
            f"PowerInfer's engine wants one for each of its {count} layers; fit them for all"
        )
    for layer, (first, second) in layers.items():
        shapes = tuple(first.shape), tuple(second.shape)
        rank = first.shape[0]
        if shapes != ((rank, hidden), (neurons, rank)):
            raise SparsityError(
                f"the predictor of layer {layer} for model {model.name} has the shapes "
                f"{list(shapes[0])} and {list(shapes[1])}; give [R, {hidden}] and [{neurons}, R]"
            )


def _add_keys(writer: Any, model: LanguageModel, threshold: float | None) -> None:
    import gguf

    config: Any = model.model.config
    length = config.max_position_embeddings
    if (window := getattr(config, "sliding_window", None)) is not None:
        length = min(length, window)  # the engine has no windows; within one it needs none
    rope = getattr(config, "rope_parameters", None) or {}
    writer.add_name(model.name)
    writer.add_context_length(length)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(rope.get("rope_theta", getattr(config, "rope_theta", 10000.0)))
    writer.add_file_type(int(gguf.LlamaFileType.MOSTLY_F16))
    if threshold is not None:
        writer.add_float32("powerinfer.sparse_threshold", threshold)


def _vocabulary(model: LanguageModel) -> dict[str, Any]:
    """The tokenizer as its tokenizer.json, which must be byte-level BPE."""
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    found: dict[str, Any] = json.loads(backend.to_str()) if backend is not None else {}
    kind = found.get("model", {}).get("type")
    if kind != "BPE" or "ByteLevel" not in json.dumps(found.get("decoder")):
        raise SparsityError(
            f"model {model.name} cannot be written for PowerInfer: its tokenizer is "
            f"{'BPE, but not of bytes' if kind == 'BPE' else kind or 'not one of tokenizers'}; "
            "write a model whose tokenizer.json is byte-level BPE, such as GPT-2's"
        )
    return found


def _add_tokenizer(writer: Any, model: LanguageModel, vocabulary: dict[str, Any]) -> None:
    import gguf

    tokenizer: Any = model.tokenizer
    by_number = {number: token for token, number in tokenizer.get_vocab().items()}
    added = {each["id"]: each["special"] for each in vocabulary["added_tokens"]}
    tokens, kinds = [], []
    embedding: Any = model.model.get_input_embeddings()
    for number in range(embedding.num_embeddings):
        # The table of tokens may have more rows than there are tokens.
        tokens.append(by_number.get(number, f"[PAD{number}]"))
        plain = gguf.TokenType.NORMAL if number in by_number else gguf.TokenType.USER_DEFINED
        special = {True: gguf.TokenType.CONTROL, False: gguf.TokenType.USER_DEFINED}
        kinds.append(special[added[number]] if number in added else plain)
    merges = vocabulary["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    for key, number in (
        ("bos", tokenizer.bos_token_id),
        ("eos", tokenizer.eos_token_id),
        ("unknown", tokenizer.unk_token_id),
        ("padding", tokenizer.pad_token_id),
    ):
        if number is not None:
            writer.add_uint32(f"tokenizer.ggml.{key}_token_id", number)
    writer.add_string("tokenizer.huggingface.json", json.dumps(vocabulary, ensure_ascii=False))


def _tensors(
    model: LanguageModel, layers: Mapping[int, tuple[torch.Tensor, torch.Tensor]]
) -> Iterator[tuple[str, Any]]:
    """(name in the file, numpy array) of everything."""
    import torch

    config: Any = model.model.config
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    names = {**_OUTSIDE, **_block_names(config.num_hidden_layers)}
    # Tied ones too: the engine's loader wants both.
    for name, parameter in model.model.named_parameters(remove_duplicate=False):
        owner = name.removesuffix(".weight")
        tensor, last = parameter.detach().float().cpu(), owner.rpartition(".")[2]
        if last in heads:
            tensor = permuted(tensor, heads[last])
        elif last == "down_proj":
            tensor = tensor.t()
        stored = tensor.to(torch.float16) if tensor.ndim > 1 else tensor
        yield f"{names[owner]}.weight", stored.contiguous().numpy()
    for layer, pair in sorted(layers.items()):
        for number, matrix in enumerate(pair, 1):
            half = matrix.detach().cpu().to(torch.float16).contiguous()
            yield f"blk.{layer}.fc{number}.weight", half.numpy()
