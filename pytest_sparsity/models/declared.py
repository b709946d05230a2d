"""What a folder's config.json says is computed, beyond what transformers reads in it.

transformers loads the class of ``model_type`` and keeps keys that it does not know as plain
attributes, without a word.  Models whose computation is code on the hub would so be measured as
other models; here they are known, or refused, or at least named in a warning.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import no_repeats

#: The key and value of ``hidden_act`` whose threshold is ``hidden_act_param``.
FATRELU = "fatrelu"

#: The class that says dReLU: no key of a config.json does.
DRELU_CLASS = "BambooForCausalLM"

#: Types of models that only code on the hub knows -> the type of transformers that computes them.
_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "bamboo": "mistral",
        "sparse_llama": "llama",
        "sparsellama": "llama",
        "sparse_mistral": "mistral",
    }
)

#: Classes of code on the hub -> the types of transformers that compute the same here.
_CLASSES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        DRELU_CLASS: ("mistral", "llama"),
        "RWForCausalLM": ("falcon",),  # Falcon's name before transformers had it
        "SparseLlamaForCausalLM": ("llama",),
        "SparseMistralForCausalLM": ("mistral",),
    }
)

#: Names under which the classes of transformers keep their activation.
_ACTIVATIONS = ("hidden_act", "hidden_activation", "activation_function", "activation")

#: Sizes that are above 0 in every model.
_POSITIVE = {"hidden_size", "num_attention_heads", "num_key_value_heads", "num_hidden_layers"}
_POSITIVE |= {
    "vocab_size",
    "head_dim",
    "max_position_embeddings",
    "n_embd",
    "n_head",
    "n_layer",
    "d_model",
    "rope_theta",
}

#: Words in the name of a key that tell of the computation; keys are cut at underscores.
_TELLING = {"act", "activation", "param", "params", "sparse", "sparsity", "topk"}
_TELLING |= {"threshold", "thresholds", "fatrelu", "relu", "drelu"}


@dataclass(frozen=True)
class Declared:
    """A folder's configuration, ready for a class of transformers.

    Attributes:
        config: transformers' own; its ``hidden_act`` is one that transformers has.
        fatrelu: threshold of the activation, None if it is not FATReLU.
        drelu: whether up is put through the activation as gate is.
        doubts: warnings of keys that tell of a computation which is not done here.
    """

    config: Any
    fatrelu: float | None = None
    drelu: bool = False
    doubts: tuple[str, ...] = ()

    def finish(self, model: Any) -> None:
        """Put the activations in that transformers lacks, in place, and say so in the config.

        Raises:
            SparsityError: the model has no place for them.
        """
        from pytest_sparsity.models.activations import use_drelu, use_fatrelu

        if self.fatrelu is not None:
            use_fatrelu(model, self.fatrelu)
            model.config.hidden_act = FATRELU
        if self.drelu:
            use_drelu(model)
            model.config.architectures = [DRELU_CLASS]


def is_known_type(kind: object) -> bool:
    """Whether models of this ``model_type`` are computed without code that comes with them."""
    from transformers import CONFIG_MAPPING

    return isinstance(kind, str) and (kind in _TYPES or kind in CONFIG_MAPPING)


def is_known_class(name: object) -> bool:
    """Whether transformers has a class of this name, or one that computes the same here."""
    import transformers

    return isinstance(name, str) and (name in _CLASSES or hasattr(transformers, name))


def read_declared(folder: Path, name: str, *, trusted: bool = False) -> Declared:
    """The configuration of ``folder``, without running code that comes with it.

    Args:
        folder: has a config.json.
        name: what the user called it, for the messages.
        trusted: whether that code may be run after all, where transformers lacks its class.

    Raises:
        SparsityError: the config.json contradicts itself.
        ValueError, OSError: it cannot be read.
    """
    from transformers import CONFIG_MAPPING, AutoConfig

    try:
        said: Any = json.loads(
            (folder / "config.json").read_text(encoding="utf-8"), object_pairs_hook=no_repeats
        )
    except ValueError as error:
        raise ValueError(f"config.json is no JSON ({error})") from error
    if not isinstance(said, dict):
        raise ValueError("config.json is not an object")
    if not isinstance(said.get("architectures"), (list, type(None))):
        raise ValueError("architectures in config.json is not a list")
    check_sizes(said, name)
    kind = said.get("model_type")
    drelu = DRELU_CLASS in (said.get("architectures") or ()) or kind == "bamboo"
    threshold = _fatrelu(said, name)
    if drelu:
        _check_bamboo(said, name)
    known = _TYPES.get(kind) if isinstance(kind, str) else None
    if known is None:
        config: Any = AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=trusted
        )
    else:
        config = CONFIG_MAPPING[known].from_dict({**said, "model_type": known})
    if threshold is not None or drelu:
        config.hidden_act = "relu"
    return Declared(config, threshold, drelu, tuple(_doubts(said, config, name)))


def check_sizes(said: Mapping[str, Any], name: str) -> None:
    """See that a configuration has no size that no model has.

    Args:
        said: what config.json says, or a part of it.
        name: what the user called the model, for the message.

    Raises:
        SparsityError: a number of heads or layers, or a width, is not above 0.
    """
    for key, value in said.items():
        if isinstance(value, dict) and key.startswith(("text", "rope")):
            check_sizes(value, name)
        elif key in _POSITIVE and isinstance(value, (int, float)) and value <= 0:
            raise SparsityError(
                f"--sparsity-model {name}: {key} in its config.json is {value}, and must be above "
                "0; mend config.json, or download it again"
            )


def check_class(config: Any, model_class: type, name: str) -> None:
    """See that the class which is loaded computes what ``architectures`` names.

    Raises:
        SparsityError: it is another class, and none that is known to compute the same.
    """
    declared = list(config.architectures or [])
    ours = model_class.__name__
    same = {
        ours.lower(),
        *(c.lower() for c, types in _CLASSES.items() if config.model_type in types),
    }
    if declared and not any(str(each).lower() in same for each in declared):
        raise SparsityError(
            f"--sparsity-model {name}: its config.json names the class {', '.join(declared)}, but "
            f"its model_type {config.model_type!r} is loaded as {ours}, which may compute "
            f"something else; if the weights are of {ours}, write that under architectures, else "
            "pass a model whose class transformers has"
        )


def _fatrelu(said: Mapping[str, Any], name: str) -> float | None:
    act, value = said.get("hidden_act"), said.get("hidden_act_param")
    if act != FATRELU:
        if value is not None:
            raise SparsityError(
                f"--sparsity-model {name}: its config.json has hidden_act_param {value!r}, which "
                f"hidden_act {act!r} does not take; write hidden_act 'fatrelu' if that is the "
                "model's, else take hidden_act_param out"
            )
        return None
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value):  # type: ignore[arg-type]
        raise SparsityError(
            f"--sparsity-model {name}: its config.json has hidden_act 'fatrelu' and "
            f"hidden_act_param {value!r}; write the threshold there, a finite number"
        )
    return float(value)  # type: ignore[arg-type]


def _check_bamboo(said: Mapping[str, Any], name: str) -> None:
    act = said.get("hidden_act", "relu")
    if act != "relu":
        raise SparsityError(
            f"--sparsity-model {name}: its config.json has hidden_act {act!r} with {DRELU_CLASS}, "
            "which computes relu(gate) * relu(up); write hidden_act 'relu', or under "
            "architectures the class that the weights are of"
        )


def _doubts(said: Mapping[str, Any], config: Any, name: str) -> Iterator[str]:
    if said.get("thresholds"):
        yield (
            f"--sparsity-model {name}: its config.json has thresholds, of CATS; the model is "
            "loaded dense, and --sparsity-methods=cats:natural measures it with them"
        )
    plain = type(config)()
    own = {*plain.to_dict(), *config.attribute_map, "thresholds", "hidden_act_param"}
    # Gemma's own files say the same under two names, of which its class reads one.
    acts = {getattr(config, key) for key in _ACTIVATIONS if hasattr(plain, key)} - {None}
    strange = sorted(
        key
        for key, value in said.items()
        # What is null, off or zero changes nothing; dropout is training's.
        if value
        and _tells(key)
        and key not in own
        and not hasattr(plain, key)
        and not (isinstance(value, str) and value in acts)
    )
    if strange:
        yield (
            f"--sparsity-model {name}: its config.json has {', '.join(strange)}, which "
            f"{type(config).__name__} does not know and nothing here computes; take out what is "
            "not the model's, or pass a model that transformers can compute"
        )


def _tells(key: str) -> bool:
    words = set(key.lower().split("_"))
    return bool(words & _TELLING) and "dropout" not in words
