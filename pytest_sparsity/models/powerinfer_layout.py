"""Which tensor of a PowerInfer GGUF file is which of transformers', by architecture.

From the engine's loader and graphs (PowerInfer d3ebd7c, ``llama.cpp``), and its converters.
The activation is fixed there for each architecture: llama relu(gate) up, bamboo relu(gate)
relu(up), falcon and opt relu(up).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_sparsity.models.declared import DRELU_CLASS
from pytest_sparsity.models.powerinfer_keys import Header, ModelSizes, rope_settings, sizes_of

if TYPE_CHECKING:
    import torch

    Turn = Callable[[torch.Tensor], torch.Tensor]


def _as_it_is(stored: torch.Tensor) -> torch.Tensor:
    return stored


def _transposed(stored: torch.Tensor) -> torch.Tensor:
    return stored.t()


@dataclass(frozen=True)
class Weight:
    """One stored tensor.

    Attributes:
        name: in the file.
        shape: as stored, outermost axis first; None where any size is right.
        turn: makes transformers' tensor of what is stored.
    """

    name: str
    shape: tuple[int | None, ...]
    turn: Turn = _as_it_is


@dataclass(frozen=True)
class Layout:
    """A file's model, in transformers' words.

    Attributes:
        architecture: in the engine's words.
        layers: how many.
        settings: content of a config.json, without ``tie_word_embeddings``.
        weights: by transformers' names.
        predictors: by ``"{layer}.first"`` and ``"{layer}.second"``.
        embedding: transformers' name of the table of tokens.
        head: transformers' name of the output's matrix, None if it is always tied.
        tokenizer: architecture whose tokenizer transformers builds from GGUF in the same way.
        ignored: tensors that a file may have and the engine does not compute with.
    """

    architecture: str
    layers: int
    settings: Mapping[str, Any]
    weights: Mapping[str, Weight]
    predictors: Mapping[str, Weight]
    embedding: str
    head: str | None
    tokenizer: str
    ignored: frozenset[str] = frozenset()


def layout_of(keys: Mapping[str, Any], names: Collection[str], where: str) -> Layout:
    """The layout of a file of one of ``ARCHITECTURES``.

    Args:
        keys: its metadata; of arrays the length.
        names: of its tensors.
        where: begins the messages.

    Raises:
        SparsityError: a key is missing, or says what the engine cannot compute.
    """
    header = Header(keys, names, where)
    return _MAKERS[header.architecture](header)


def permuted(matrix: torch.Tensor, heads: int) -> torch.Tensor:
    """The rows of q or k [heads * D, H], halves of a head interleaved, as llama.cpp rotates."""
    rows, width = matrix.shape
    return matrix.reshape(heads, 2, rows // heads // 2, width).swapaxes(1, 2).reshape(rows, width)


def unpermuted(matrix: torch.Tensor, heads: int) -> torch.Tensor:
    """What :func:`permuted` was given."""
    rows, width = matrix.shape
    return matrix.reshape(heads, rows // heads // 2, 2, width).swapaxes(1, 2).reshape(rows, width)


def _predictors(sizes: ModelSizes) -> dict[str, Weight]:
    found = {}
    for layer in range(sizes.layers):
        found[f"{layer}.first"] = Weight(f"blk.{layer}.fc1.weight", (None, sizes.hidden))
        found[f"{layer}.second"] = Weight(f"blk.{layer}.fc2.weight", (sizes.neurons, None))
    return found


def _llama(header: Header) -> Layout:
    s, bamboo = sizes_of(header), header.architecture == "bamboo"
    # The engine's graph runs without a gate, its loader asks for one: such files are ours.
    gated = bamboo or any(name.endswith(".ffn_gate.weight") for name in header.names)
    kind = ("arcee", "ArceeForCausalLM") if not gated else ("llama", "LlamaForCausalLM")
    settings = {
        "architectures": [DRELU_CLASS if bamboo else kind[1]],
        "model_type": kind[0],
        "hidden_act": "relu",
        "vocab_size": s.tokens,
        "hidden_size": s.hidden,
        "intermediate_size": s.neurons,
        "num_hidden_layers": s.layers,
        "num_attention_heads": s.heads,
        "num_key_value_heads": s.kv_heads,
        "head_dim": s.hidden // s.heads,
        "max_position_embeddings": header.count("context_length"),
        "rms_norm_eps": float(header.get("attention.layer_norm_rms_epsilon")),
        "attention_bias": False,
        "mlp_bias": False,
        **rope_settings(header, s),
        **s.common,
    }
    weights = {
        "model.embed_tokens.weight": Weight("token_embd.weight", (s.tokens, s.hidden)),
        "model.norm.weight": Weight("output_norm.weight", (s.hidden,)),
        "lm_head.weight": Weight("output.weight", (s.tokens, s.hidden)),
    }
    block = {
        "input_layernorm": ("attn_norm", (s.hidden,), _as_it_is),
        "self_attn.q_proj": ("attn_q", (s.hidden, s.hidden), lambda w: unpermuted(w, s.heads)),
        "self_attn.k_proj": ("attn_k", (s.kv, s.hidden), lambda w: unpermuted(w, s.kv_heads)),
        "self_attn.v_proj": ("attn_v", (s.kv, s.hidden), _as_it_is),
        "self_attn.o_proj": ("attn_output", (s.hidden, s.hidden), _as_it_is),
        "post_attention_layernorm": ("ffn_norm", (s.hidden,), _as_it_is),
        "mlp.gate_proj": ("ffn_gate", (s.neurons, s.hidden), _as_it_is),
        "mlp.up_proj": ("ffn_up", (s.neurons, s.hidden), _as_it_is),
        "mlp.down_proj": ("ffn_down_t", (s.neurons, s.hidden), _transposed),
    }
    if not gated:
        del block["mlp.gate_proj"]
    for layer in range(s.layers):
        for ours, (theirs, shape, turn) in block.items():
            stored = Weight(f"blk.{layer}.{theirs}.weight", shape, turn)
            weights[f"model.layers.{layer}.{ours}.weight"] = stored
    return Layout(
        header.architecture,
        s.layers,
        settings,
        weights,
        _predictors(s),
        "model.embed_tokens.weight",
        "lm_head.weight",
        "llama",
        frozenset(f"blk.{layer}.attn_rot_embd.weight" for layer in range(s.layers)),
    )


def _falcon(header: Header) -> Layout:
    s = sizes_of(header)
    two_norms = "blk.0.attn_norm_2.weight" in header.names
    grouped = two_norms or s.kv_heads > 1
    settings = {
        "architectures": ["FalconForCausalLM"],
        "model_type": "falcon",
        "activation": "relu",
        "vocab_size": s.tokens,
        "hidden_size": s.hidden,
        "ffn_hidden_size": s.neurons,
        "num_hidden_layers": s.layers,
        "num_attention_heads": s.heads,
        "num_kv_heads": s.kv_heads,
        "new_decoder_architecture": grouped,
        "num_ln_in_parallel_attn": 2 if two_norms else 1,
        "multi_query": True,
        "parallel_attn": True,
        "alibi": False,
        "bias": False,
        "max_position_embeddings": header.count("context_length"),
        "layer_norm_epsilon": float(header.get("attention.layer_norm_epsilon")),
        **rope_settings(header, s),
        **s.common,
    }
    weights = {
        "transformer.word_embeddings.weight": Weight("token_embd.weight", (s.tokens, s.hidden)),
        "lm_head.weight": Weight("output.weight", (s.tokens, s.hidden)),
    }
    norms = {"transformer.ln_f": "output_norm"}

    def fused(stored: torch.Tensor) -> torch.Tensor:
        """Queries, keys, values [., H] -> by groups of heads: their queries, key and value."""
        import torch

        if not grouped:
            return stored
        q, k, v = (
            part.reshape(s.kv_heads, -1, s.hidden // s.heads, s.hidden)
            for part in torch.split(stored, [s.hidden, s.kv, s.kv])
        )
        return torch.cat([q, k, v], 1).reshape_as(stored)

    block = {
        "self_attention.query_key_value": ("attn_qkv", (s.hidden + 2 * s.kv, s.hidden), fused),
        "self_attention.dense": ("attn_output", (s.hidden, s.hidden), _as_it_is),
        "mlp.dense_h_to_4h": ("ffn_up", (s.neurons, s.hidden), _as_it_is),
        "mlp.dense_4h_to_h": ("ffn_down_t", (s.neurons, s.hidden), _transposed),
    }
    for layer in range(s.layers):
        ours, theirs = f"transformer.h.{layer}", f"blk.{layer}"
        for name, (stored, shape, turn) in block.items():
            weights[f"{ours}.{name}.weight"] = Weight(f"{theirs}.{stored}.weight", shape, turn)
        norms[f"{ours}.{'ln_mlp' if two_norms else 'input_layernorm'}"] = f"{theirs}.attn_norm"
        if two_norms:
            norms[f"{ours}.ln_attn"] = f"{theirs}.attn_norm_2"
    for name, stored in norms.items():
        for part in ("weight", "bias"):
            weights[f"{name}.{part}"] = Weight(f"{stored}.{part}", (s.hidden,))
    return Layout(
        "falcon",
        s.layers,
        settings,
        weights,
        _predictors(s),
        "transformer.word_embeddings.weight",
        "lm_head.weight",
        "falcon",
    )


def _opt(header: Header) -> Layout:
    s = sizes_of(header)
    positions = header.count("context_length")
    settings = {
        "architectures": ["OPTForCausalLM"],
        "model_type": "opt",
        "activation_function": "relu",
        "vocab_size": s.tokens,
        "hidden_size": s.hidden,
        "word_embed_proj_dim": s.hidden,
        "ffn_dim": s.neurons,
        "num_hidden_layers": s.layers,
        "num_attention_heads": s.heads,
        # The first two rows of the table are no positions.
        "max_position_embeddings": positions - 2,
        "do_layer_norm_before": True,
        "tie_word_embeddings": True,
        **s.common,
    }
    weights = {
        "model.decoder.embed_tokens.weight": Weight("token_embd.weight", (s.tokens, s.hidden)),
        "model.decoder.embed_positions.weight": Weight(
            "position_embd.weight", (positions, s.hidden)
        ),
    }
    # (ours, stored, shape, bias, turn)
    parts: list[tuple[str, str, tuple[int, ...], int, Turn]]
    parts = [("final_layer_norm", "output_norm", (s.hidden,), s.hidden, _as_it_is)]
    for layer in range(s.layers):
        for ours, theirs, rows in (
            ("self_attn.q_proj", "attn_q", s.hidden),
            ("self_attn.k_proj", "attn_k", s.kv),
            ("self_attn.v_proj", "attn_v", s.kv),
            ("self_attn.out_proj", "attn_output", s.hidden),
            ("fc1", "ffn_up", s.neurons),
        ):
            names = f"layers.{layer}.{ours}", f"blk.{layer}.{theirs}"
            parts.append((*names, (rows, s.hidden), rows, _as_it_is))
        names = f"layers.{layer}.fc2", f"blk.{layer}.ffn_down_t"
        parts.append((*names, (s.neurons, s.hidden), s.hidden, _transposed))
        for ours, theirs in (
            ("self_attn_layer_norm", "attn_norm"),
            ("final_layer_norm", "ffn_norm"),
        ):
            names = f"layers.{layer}.{ours}", f"blk.{layer}.{theirs}"
            parts.append((*names, (s.hidden,), s.hidden, _as_it_is))
    for ours, theirs, shape, bias, turn in parts:
        weights[f"model.decoder.{ours}.weight"] = Weight(f"{theirs}.weight", shape, turn)
        weights[f"model.decoder.{ours}.bias"] = Weight(f"{theirs}.bias", (bias,))
    return Layout(
        "opt",
        s.layers,
        settings,
        weights,
        _predictors(s),
        "model.decoder.embed_tokens.weight",
        None,
        "gpt2",
        frozenset({"output.weight"}),  # the engine multiplies by the table of tokens
    )


_MAKERS: Mapping[str, Callable[[Header], Layout]] = {
    "llama": _llama,
    "bamboo": _llama,
    "falcon": _falcon,
    "opt": _opt,
}

#: What the engine runs sparsely.
ARCHITECTURES = tuple(_MAKERS)
