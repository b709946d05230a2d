"""What of a GGUF file did not get into the model that transformers made of it.

transformers reads the tensors that the model has parameters for and the keys that it knows, and
passes over the rest without a word: biases, rotary factors and scalings among them.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

#: Keys below the architecture's name -> where a configuration of transformers has their value.
_SAID: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "attention.head_count": ("num_attention_heads", "n_head"),
        "attention.head_count_kv": ("num_key_value_heads", "num_kv_heads"),
        "attention.key_length": ("head_dim", "global_head_dim"),
        "attention.value_length": ("head_dim", "global_head_dim"),
        "attention.layer_norm_epsilon": ("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"),
        "attention.layer_norm_rms_epsilon": ("rms_norm_eps", "norm_eps", "layer_norm_epsilon"),
        "attention.sliding_window": ("sliding_window",),
        "attn_logit_softcapping": ("attn_logit_softcapping",),
        "expert_used_count": ("num_experts_per_tok", "num_experts_per_token"),
        "final_logit_softcapping": ("final_logit_softcapping",),
        "full_attention_interval": ("full_attention_interval",),
        "logit_scale": ("logit_scale",),
        "rope.freq_base": ("rope_theta",),
        "rope.freq_base_swa": ("rope_local_base_freq", "rope_theta"),
        "rope.scaling.attn_factor": ("attention_factor",),
        "rope.scaling.factor": ("factor",),
        "rope.scaling.original_context_length": ("original_max_position_embeddings",),
        "rope.scaling.type": ("rope_type",),
        "shortconv.l_cache": ("conv_L_cache",),
        "ssm.conv_kernel": ("conv_kernel", "linear_conv_kernel_dim"),
        "use_parallel_residual": ("use_parallel_residual",),
    }
)

#: Values that change nothing, whatever a configuration has.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {
        "attention.causal": (True,),
        "rope.scaling.attn_factor": (1.0,),
        "rope.scaling.factor": (1.0,),
        "rope.scaling.type": ("none",),
        "expert_count": (0,),
        "expert_used_count": (0,),
    }
)

#: What tensors have by their shapes, and what says nothing of the computation.
_IN_SHAPES = {"block_count", "embedding_length", "feed_forward_length", "vocab_size"}
_IN_SHAPES |= {"expert_count", "expert_feed_forward_length", "expert_shared_feed_forward_length"}
_IN_SHAPES |= {"expert_shared_count", "ssm.inner_size", "ssm.state_size", "ssm.group_count"}
_IN_SHAPES |= {"ssm.time_step_rank", "rope.dimension_sections", "nextn_predict_layers"}
_SILENT = {"context_length", "tensor_data_layout", "rope.scaling.finetuned"}


def unused_of(path: Path, model: Any, unexpected: Collection[str]) -> list[str]:
    """Names of the tensors and keys of a GGUF file that the model was made without.

    Args:
        path: the file.
        model: that transformers made of it.
        unexpected: names that transformers itself says it has no place for.
    """
    import gguf

    reader = gguf.GGUFReader(path)
    field: Any = reader.get_field("general.architecture")
    architecture = str(field.contents())
    names = [tensor.name for tensor in reader.tensors]
    found = sorted({*unexpected, *_unused_tensors(architecture, names, model)})
    values = {
        key.removeprefix(f"{architecture}."): field.contents()
        for key, field in reader.fields.items()
        if key.startswith(f"{architecture}.")
    }
    keys = [f"{architecture}.{key} = {values[key]}" for key in unused_keys(values, model.config)]
    return [*found, *keys]


def _unused_tensors(architecture: str, names: list[str], model: Any) -> Iterator[str]:
    import transformers.modeling_gguf_pytorch_utils as loader

    theirs: Any = loader
    with contextlib.suppress(ImportError):  # transformers 4 has one loader
        second: Any = importlib.import_module("transformers.integrations.gguf")
        if second.is_gguf_arch_supported(architecture):  # it tells of what it does not use
            return
    kind = theirs.TENSOR_PROCESSORS.get(architecture, theirs.TensorProcessor)
    names_of = theirs.get_gguf_hf_weights_map
    # transformers 4 knows experts by their names there, without a processor.
    newer = "processor" in inspect.signature(names_of).parameters
    given = [kind(config=model.config.to_dict())] if newer else []
    read = names_of(model, *given)
    for name in names:
        # The experts of a layer are known by their name without the ending.
        if name not in read and name.removesuffix(".weight") not in read:
            yield name


def unused_keys(values: Mapping[str, Any], config: Any) -> list[str]:
    """The keys of an architecture that a configuration of transformers does not say as well.

    Args:
        values: by key, without the architecture's name.
        config: of the model.
    """
    said = config.get_text_config().to_dict()
    found = []
    for key, value in sorted(values.items()):
        if key in _IN_SHAPES | _SILENT or _is_any(value, _NEUTRAL.get(key, ())):
            continue
        if key == "rope.dimension_count":
            known: list[Any] = _rotary_widths(config)
        elif key == "rope.scaling.original_context_length" and value == values.get(
            "context_length"
        ):
            continue
        else:
            known = [v for name in _SAID.get(key, ()) for v in _values(said, name)]
        if key in ("attention.key_length", "attention.value_length"):
            known.append(_head_width(config))
        if not _is_any(value, known):
            found.append(key)
    return found


def _is_any(value: Any, known: Collection[Any]) -> bool:
    """Whether a value, or the largest of one per layer, is among others, to float32's precision."""
    if isinstance(value, list) and value and all(isinstance(each, int) for each in value):
        value = max(value)
    for other in known:
        if isinstance(value, (int, float)) and isinstance(other, (int, float)):
            if math.isclose(value, other, rel_tol=1e-5):
                return True
        elif value == other:
            return True
    return False


def _values(said: Mapping[str, Any], name: str) -> list[Any]:
    """Every value of ``name`` in a configuration: rotary parameters stand deeper."""
    found = [said[name]] if name in said else []
    for value in said.values():
        if isinstance(value, Mapping):
            found += _values(value, name)
    return found


def _head_width(config: Any) -> int:
    text = config.get_text_config()
    return int(getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads)


def _rotary_widths(config: Any) -> list[Any]:
    said = config.get_text_config().to_dict()
    parts = [*_values(said, "partial_rotary_factor"), *_values(said, "rotary_pct")]
    widths = [_head_width(config), *_values(said, "global_head_dim")]
    return [round(width * part) for width in widths for part in [p for p in parts if p] or [1.0]]
