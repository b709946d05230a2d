"""Shrunk twins: an architecture with small sizes and random weights, from its configuration alone.

A twin has every kind of layer of its model, and all that its configuration switches on, in a
hundred thousand weights.  What it computes means nothing; how it computes is the model's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from math import prod
from typing import TYPE_CHECKING, Any, cast

from pytest_sparsity.models.parameter_dtypes import dtype_of
from pytest_sparsity.models.twin_layers import fewer_layers
from pytest_sparsity.models.twin_sizes import GROUPED, LARGEST, OWN_SIZES, PLAIN, PLAIN_4

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

#: Tokens of :func:`pytest_sparsity.models.tiny.tiny_tokenizer`: the bytes, and the end of a text.
TOKENS = 257
_END = TOKENS - 1
#: These all become the token that ends a text; other special tokens get numbers of their own.
_ENDS = ("eos_token_id", "pad_token_id", "bos_token_id", "decoder_start_token_id", "sep_token_id")
#: Says where a configuration is from, not what it is.
_ORIGIN = ("transformers_version", "architectures", "dtype", "torch_dtype", "_name_or_path")
_LABELS = ("id2label", "label2id")
#: Weights that are read as they are and not multiplied by, in more than one dimension.
_NOT_MATRICES = ("A_log", "time_mix_key", "time_mix_value", "time_mix_receptance")


def plain_config(kind: type[PreTrainedConfig]) -> PreTrainedConfig:
    """The configuration that a class of transformers has by default.

    Where the class leaves open what the model cannot do without, it is filled in as in published
    checkpoints (``PLAIN``, ``PLAIN_4``).
    """
    older = PLAIN_4.get(kind.model_type, {}) if version("transformers") < "5" else {}
    return kind(**PLAIN.get(kind.model_type, {}), **older)


def shrunk_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """The configuration of a small model of the same architecture.

    It has the first layer of every kind, at least two; sizes as in
    :mod:`~pytest_sparsity.models.twin_sizes`; one token per byte, one that ends a text, and one for
    every other special token.  Configurations inside it are shrunk alike.

    Args:
        config: of any size; left as it is.

    Raises:
        Exception: the class refuses it, in its own words.
    """
    old = config.to_dict()
    special = sorted(set(_special_tokens(old)))
    tokens = {token: TOKENS + place for place, token in enumerate(special)}
    return type(config)(**_shrunk(old, config, tokens))


def shortened_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """The configuration with the layers that its shrunk twin has, and all sizes as they are."""
    return type(config)(**_shortened(config.to_dict(), config))


def random_model(config: PreTrainedConfig, seed: int) -> PreTrainedModel:
    """A float32 model in evaluation mode with random weights.

    Matrices are drawn so that what they give is about as large as what they read; scales and
    biases are what the architecture starts with, moved a little, so that none is without effect.

    Args:
        config: such as :func:`shrunk_config` makes.
        seed: of all weights.

    Raises:
        Exception: transformers cannot build it, in its own words.
    """
    model: torch.nn.Module = _built(config, seed)
    _draw_weights(model, seed)
    return cast("PreTrainedModel", model.eval())


def in_dtype(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """A model with the same weights, built in another dtype as ``from_pretrained`` builds it.

    Casting the parameters is not enough, and casting everything too much: which buffers have the
    dtype of the weights, and which stay float32, the architecture decides while it is built; and
    some parameters stay float32 as well.
    """
    import torch

    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        built = _built(model.config, 0)
    finally:
        torch.set_default_dtype(default)
    for name, tensor in [*built.named_parameters(), *built.named_buffers()]:
        if tensor.dtype == dtype and (own := dtype_of(built, name, dtype)) != dtype:
            tensor.data = tensor.data.to(own)
    built.load_state_dict(model.state_dict())
    built.train(model.training)
    return built


def _built(config: PreTrainedConfig, seed: int) -> PreTrainedModel:
    """A model as its class makes it, in the default dtype."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config._attn_implementation = (
            "sdpa" if (kind := causal_class(config))._supports_sdpa else "eager"
        )
        return cast("PreTrainedModel", kind(config))


def causal_class(config: PreTrainedConfig) -> Any:
    """The class of transformers that generates text with a configuration.

    Raises:
        ValueError: there is none.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        return MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    # The table names Llama 4's class by the configuration of the whole; it takes that of the text.
    for kind in MODEL_FOR_CAUSAL_LM_MAPPING.values():
        if getattr(kind, "config_class", None) is type(config):
            return kind
    raise ValueError(f"no class generates text with {type(config).__name__}")


def _draw_weights(model: torch.nn.Module, seed: int) -> None:
    """Draw every parameter of a model anew, in place, in the order of their names."""
    import torch

    owners = dict(model.named_modules())
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            owner, _, leaf = name.rpartition(".")
            noise = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
            if parameter.ndim < 2 or leaf in _NOT_MATRICES:
                parameter.add_(0.1 * noise)
            else:
                parameter.copy_(noise / _fan_in(owners[owner], parameter) ** 0.5)


def _fan_in(owner: torch.nn.Module, weight: torch.Tensor) -> int:
    """How many values a weight multiplies for one result."""
    import torch

    if isinstance(owner, torch.nn.Linear):
        return owner.in_features
    if isinstance(owner, (torch.nn.Conv1d, torch.nn.Conv2d)):
        return prod(weight.shape[1:])
    # Of stacked experts either of the two sizes is read: the smaller makes no difference of note.
    return min(weight.shape[-2:])


def _shrunk(old: dict[str, Any], config: Any, tokens: Mapping[int, int]) -> dict[str, Any]:
    """The entries of a shrunk configuration.

    Args:
        old: its entries.
        config: the same as an object, which knows what of it are configurations.
        tokens: special token -> the number that stands for it.
    """
    new = _own(old) | fewer_layers(old)
    for key, value in new.items():
        if key == "per_layer_config" and isinstance(value, dict):
            new[key] = {place: _of_one_layer(entry, old) for place, entry in value.items()}
        elif isinstance(value, dict) and hasattr(inner := getattr(config, key, None), "to_dict"):
            new[key] = _shrunk(value, inner, tokens)
        elif key in ("rope_parameters", "rope_scaling") and isinstance(value, dict):
            new[key] = _rope(value, old)
        elif _is_token(key):
            new[key] = _token(key, value, tokens)
        elif "vocab_size" in key and key not in LARGEST and _is_number(value):
            new[key] = TOKENS + len(tokens)
        else:
            new[key] = _smaller(key, value, old)
    new |= OWN_SIZES.get(str(old.get("model_type")), {})
    return new | _fitting(new, old)


def _shortened(old: dict[str, Any], config: Any) -> dict[str, Any]:
    """The entries of a shortened configuration."""
    new = _own(old) | fewer_layers(old)
    for key, value in new.items():
        if isinstance(value, dict) and hasattr(inner := getattr(config, key, None), "to_dict"):
            new[key] = _shortened(value, inner)
    new |= OWN_SIZES.get(str(old.get("model_type")), {}) if "attn_layer_period" in new else {}
    fits = _fitting(new, old)
    return new | {key: value for key, value in fits.items() if "layers" in key}


def _own(entries: Mapping[str, Any]) -> dict[str, Any]:
    """What a configuration says that not every one says: some classes take nothing of that."""
    from transformers import PretrainedConfig as PreTrainedConfig  # its name until transformers 5

    every = PreTrainedConfig().to_dict()
    own = {key: value for key, value in entries.items() if key not in every or value != every[key]}
    return {key: value for key, value in own.items() if key not in (*_ORIGIN, *_LABELS)}


def _fitting(new: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    """Entries that follow from others."""
    fits: dict[str, Any] = {}
    if "use_mamba_kernels" in new and version("transformers") < "5":  # later ones know themselves
        fits["use_mamba_kernels"] = False
    if _is_number(rope := new.get("qk_rope_head_dim")):
        if old.get("head_dim") == old["qk_rope_head_dim"]:
            fits["head_dim"] = rope
        if _is_number(new.get("qk_head_dim")):
            fits["qk_head_dim"] = new["qk_nope_head_dim"] + rope
    if isinstance(kinds := new.get("block_types"), list):  # they come again and again
        fits["num_hidden_layers"] = len(kinds)
    if _is_number(new.get("num_layers_per_stack")):  # two stacks, passed in turn
        passes = new["H_cycles"] * (new["L_cycles"] + 1)
        fits |= {"num_layers_per_stack": 2, "num_hidden_layers": 2 * passes}
    return fits


def _rope(rope: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    """Angles for fewer channels: what is listed per pair of them is thinned out evenly."""
    new = dict(rope)
    for key, value in rope.items():
        if isinstance(value, dict):  # of one kind of layers
            new[key] = _rope(value, old)
        elif key in ("long_factor", "short_factor") and isinstance(value, list):
            pairs = _rotary_pairs(rope, old)
            new[key] = [value[place * len(value) // pairs] for place in range(pairs)]
        elif key == "mrope_section" and isinstance(value, list):
            new[key] = _sections(value, _rotary_pairs(rope, old))
        elif key == "original_max_position_embeddings":
            new[key] = _smaller("max_position_embeddings", value, old)
    return new


def _rotary_pairs(rope: Mapping[str, Any], old: Mapping[str, Any]) -> int:
    """How many pairs of channels a head of the twin turns."""
    width = min(old.get("head_dim") or LARGEST["head_dim"], LARGEST["head_dim"])
    part = rope.get("partial_rotary_factor", old.get("partial_rotary_factor")) or 1
    return int(width * part) // 2


def _sections(sections: list[int], pairs: int) -> list[int]:
    """Parts of ``pairs`` in the proportion of ``sections``, the first takes what is left."""
    rest = [max(1, pairs * part // sum(sections)) for part in sections[1:]]
    return [pairs - sum(rest), *rest]


def _of_one_layer(entry: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """What one layer has otherwise: where it is larger than the others, in the twin too."""
    together = {**base, **entry}
    own = {key: _smaller(key, value, together) for key, value in entry.items()}
    return {
        key: 2 * value
        if _is_number(value) and entry[key] > (base.get(key) or entry[key])
        else value
        for key, value in own.items()
    }


def _smaller(key: str, value: Any, old: Mapping[str, Any]) -> Any:
    """A size as a twin has it; anything else as it is."""
    if isinstance(value, list):
        return [_smaller(key, each, old) for each in value]
    if key not in LARGEST or not _is_number(value):
        return value
    heads = next((old[name] for name in GROUPED.get(key, ()) if _is_number(old.get(name))), None)
    largest = LARGEST[GROUPED[key][0]] if heads == value else LARGEST[key]
    return value if value < 1 or largest % value == 0 else largest


def _special_tokens(config: Mapping[str, Any]) -> Iterator[int]:
    """Tokens that stand for no text, such as the places of an image."""
    for key, value in config.items():
        if isinstance(value, dict) and key not in _LABELS:
            yield from _special_tokens(value)
        elif _is_token(key) and key not in _ENDS:
            each = value if isinstance(value, list) else [value]
            yield from (token for token in each if _is_number(token) and token >= 0)


def _is_token(key: str) -> bool:
    return key.endswith(("_token_id", "_token_index"))


def _token(key: str, value: Any, tokens: Mapping[int, int]) -> Any:
    if value is None or value == -1:
        return value
    if key in _ENDS:
        return _END
    return [tokens[each] for each in value] if isinstance(value, list) else tokens[value]


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
