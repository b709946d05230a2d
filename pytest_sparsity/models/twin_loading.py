"""``--sparsity-model tiny:NAME``: from where a configuration is to a shrunk twin that is loaded."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import sha256_text
from pytest_sparsity.core.progress import Progress, silent
from pytest_sparsity.models.catalog import KNOWN, ShippedModel
from pytest_sparsity.models.declared import Declared, read_declared
from pytest_sparsity.models.hub import fetch
from pytest_sparsity.models.upstream import failures_as, quiet

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: What the names of shrunk twins begin with.
TINY = "tiny:"
SEED = 20260101
_TAKES = (
    "give tiny:FOLDER with a config.json, tiny:org/name of a hub, or tiny:TYPE with a model_type "
    "of transformers"
)


def is_twin(name: str) -> bool:
    """Whether a model's name asks for a shrunk twin."""
    return name.startswith(TINY)


def twin_name(name: str) -> str:
    """The short name of the shrunk twin that ``name`` asks for, not yet safe in test ids."""
    path = Path(name.removeprefix(TINY)).expanduser()
    return f"tiny-{path.resolve().name if path.is_dir() else path.name}"


@dataclass(frozen=True)
class Twin:
    """What :func:`make_twin` made.

    Attributes:
        model: on the CPU.
        tokenizer: one token per byte.
        weights_hash: hex SHA-256 over its tensors in float32, the same for every dtype.
        network_hash: hex SHA-256 over its configuration.
        notice: what every record says of it.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    weights_hash: str
    network_hash: str
    notice: str


def make_twin(name: str, dtype: torch.dtype, progress: Progress = silent) -> Twin:
    """The shrunk twin of a model: its architecture in small, with random weights.

    Nothing but a configuration is read, and nothing but that is fetched.

    Args:
        name: ``tiny:`` and a folder with a ``config.json``, a hub id, or a ``model_type`` of
            transformers, whose class's own configuration it then is.
        dtype: of its weights, which are drawn in float32.
        progress: shows the fetch.

    Raises:
        SparsityError: there is no such configuration, or it is of no decoder-only model that
            transformers can build.
    """
    from pytest_sparsity.models.tiny import tensors_hash, tiny_tokenizer
    from pytest_sparsity.models.twins import in_dtype, random_model, shrunk_config

    declared = read_twin(name, progress)
    advice = "take another architecture, or a newer transformers"
    with quiet(), failures_as(f"--sparsity-model {name} cannot be built small", advice):
        config = shrunk_config(causal_config(declared.config, name))
        drawn = random_model(config, SEED)
        check_reads_forward(drawn, name)
        described = config.to_dict()
        model = in_dtype(drawn, dtype)
        declared.finish(model)  # what it puts in, no class of transformers can build
    return Twin(
        model,
        tiny_tokenizer(),
        tensors_hash(drawn),
        sha256_text(json.dumps(described, sort_keys=True, default=str)),
        f"a shrunk twin of {name.removeprefix(TINY)} with random weights (seed {SEED}): "
        "its text means nothing",
    )


def read_twin(name: str, progress: Progress = silent) -> Declared:
    """The configuration, in full size, of which ``name`` asks for a twin.

    Raises:
        SparsityError: there is none.
    """
    wanted = name.removeprefix(TINY)
    path = Path(wanted).expanduser()
    known = KNOWN.get(wanted)
    if isinstance(known, ShippedModel):
        path = known.folder
    with quiet(), failures_as(f"--sparsity-model {name} cannot be read", _TAKES):
        if wanted and path.is_dir():
            if not (path / "config.json").is_file():
                raise SparsityError(
                    f"--sparsity-model {name}: the folder has no config.json; {_TAKES}"
                )
            return read_declared(path, name)
        if "/" not in wanted and (found := _by_type(wanted)) is not None:
            return Declared(found)
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", wanted):
        return _from_hub(wanted, name, progress)
    raise SparsityError(
        f"--sparsity-model {name}: {wanted!r} is no folder, no hub id and no type of model that "
        f"transformers knows; {_TAKES}"
    )


def causal_config(config: Any, name: str) -> Any:
    """The configuration whose class generates text: itself, or its part for text.

    Raises:
        SparsityError: no class of transformers generates text with it.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    for each in (config, config.get_text_config(decoder=True)):
        if type(each) in MODEL_FOR_CAUSAL_LM_MAPPING and not each.is_encoder_decoder:
            text = each.get_text_config(decoder=True)
            # Llama 4's class for text takes the part for text of the whole's configuration.
            wants = getattr(MODEL_FOR_CAUSAL_LM_MAPPING[type(each)], "config_class", None)
            return text if type(text) is wants else each
    raise SparsityError(
        f"--sparsity-model {name} is a {config.model_type}, not a decoder-only language model; "
        "take one that generates text"
    )


def _by_type(kind: str) -> Any:
    """The default configuration of a ``model_type``; None if transformers does not know it."""
    from transformers import CONFIG_MAPPING

    from pytest_sparsity.models.twins import plain_config

    return plain_config(CONFIG_MAPPING[kind]) if kind in CONFIG_MAPPING else None


def _from_hub(wanted: str, name: str, progress: Progress) -> Declared:
    otherwise = "give tiny:FOLDER with a config.json"
    folder = fetch(wanted, name, ["config.json"], otherwise=otherwise, progress=progress)
    if not (folder / "config.json").is_file():
        raise SparsityError(
            f"--sparsity-model {name}: {wanted} has no config.json, as models of transformers do; "
            f"{_TAKES}"
        )
    with quiet(), failures_as(f"--sparsity-model {name} cannot be read", _TAKES):
        return read_declared(folder, name)


def check_reads_forward(model: Any, name: str) -> None:
    """See that what a token gives does not depend on tokens after it.

    Raises:
        SparsityError: it does, as in an encoder.
    """
    import torch

    tokens = torch.arange(40, 80)[None]
    other = tokens.clone()
    other[0, -1] = 90
    with torch.no_grad():
        one, two = (
            model(input_ids=each, use_cache=False).logits[0, :-1] for each in (tokens, other)
        )
    if not torch.allclose(one, two, rtol=1e-4, atol=1e-4):
        raise SparsityError(
            f"--sparsity-model {name}: {type(model).__name__} reads a text both ways, as an "
            "encoder does; take a decoder-only model"
        )
