"""Which layers of an architecture a shrunk twin has: the first of every kind, in their order.

A configuration says what a layer is in many ways.  :func:`fewer_layers` reads all of them as one
label per layer, keeps the first layer of every label, and writes the same ways for these.
"""

from __future__ import annotations

from typing import Any

#: Names of the number of layers.
COUNTS = (
    "num_hidden_layers",
    "n_layer",
    "n_layers",
    "num_layers",
    "num_blocks",
    "decoder_layers",
    "num_decoder_layers",
    "num_layers_per_stack",
)
#: Lists with one entry per layer.
_PER_LAYER = (
    "layer_types",
    "mlp_layer_types",
    "layers_block_type",
    "attention_layers",
    "attn_layers",
    "indexer_types",
    "layer_rope_theta",
    "no_rope_layers",
    "num_attention_heads_per_layer",
    "activation_sparsity_pattern",
    "intermediate_size",
)
#: Lists of the layers that have something.
_MEMBERS = (
    "mlp_only_layers",
    "moe_layers",
    "full_attn_idxs",
    "hybrid_layer_ids",
    "attn_layer_indices",
    "cross_attention_layers",
    "ple_layer_ids",
    "local_layer_ids",
)
#: How many of the first layers have no experts.
_FIRST = ("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index")
#: How many of the last layers take keys and values from layers before.
_LAST = ("num_kv_shared_layers",)


def layer_count(config: dict[str, Any]) -> int:
    """How many layers a configuration has; 0 if it does not tell."""
    for name in COUNTS:
        if isinstance(config.get(name), int):
            return int(config[name])
    return max((len(config[key]) for key in _PER_LAYER if _is_list(config.get(key))), default=0)


def fewer_layers(config: dict[str, Any], least: int = 2) -> dict[str, Any]:
    """The entries of a configuration that say how many layers it has, and what they are.

    Args:
        config: with all its layers.
        least: layers that are kept, if it has as many.
    """
    count = layer_count(config)
    if count == 0:
        return {}
    labels = [_label(config, layer, count) for layer in range(count)]
    kept = {labels.index(label) for label in labels}
    kept |= set(_shared(config)[:2])
    for layer in range(count):
        if len(kept) >= least:
            break
        kept.add(layer)
    chosen = sorted(kept)
    new: dict[str, Any] = {key: len(chosen) for key in COUNTS if config.get(key) == count}
    for key in _PER_LAYER:
        if _is_list(config.get(key), count):
            new[key] = [config[key][layer] for layer in chosen]
    for key in _MEMBERS:
        if isinstance(config.get(key), list):
            new[key] = [place for place, layer in enumerate(chosen) if layer in config[key]]
    for key in _FIRST:
        if isinstance(config.get(key), int):
            new[key] = sum(layer < config[key] for layer in chosen)
    for key in _LAST:
        if isinstance(config.get(key), int):
            new[key] = sum(layer >= count - config[key] for layer in chosen)
    if isinstance(config.get("attention_types"), list):  # GPT-Neo says it a second time, in short
        new["attention_types"] = [[new["attention_layers"], 1]]
    if isinstance(own := config.get("per_layer_config"), dict):
        by_layer = {int(layer): entry for layer, entry in own.items()}
        new["per_layer_config"] = {
            place: by_layer[layer] for place, layer in enumerate(chosen) if layer in by_layer
        }
    return new


def _label(config: dict[str, Any], layer: int, count: int) -> str:
    """All that the configuration says of one layer."""
    said: list[Any] = [config[key][layer] for key in _PER_LAYER if _is_list(config.get(key), count)]
    said += [layer in config[key] for key in _MEMBERS if isinstance(config.get(key), list)]
    said += [layer < config[key] for key in _FIRST if isinstance(config.get(key), int)]
    said += [layer >= count - config[key] for key in _LAST if isinstance(config.get(key), int)]
    if isinstance(own := config.get("per_layer_config"), dict):
        said.append(sorted((k, str(v)) for k, v in own.items() if int(k) == layer)[:1] != [])
    return repr(said)


def _shared(config: dict[str, Any]) -> list[int]:
    """The layers through which one block with one set of weights goes (Zamba): two show it."""
    kinds = config.get("layers_block_type")
    return [layer for layer, kind in enumerate(kinds or ()) if kind == "hybrid"]


def _is_list(value: Any, count: int | None = None) -> bool:
    return isinstance(value, list | tuple) and (count is None or len(value) == count)
