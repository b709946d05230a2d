"""The keys of a PowerInfer GGUF file that say how large its model is, checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_sparsity.core.errors import SparsityError

#: The first bytes of PowerInfer's files, where other GGUF files have ``GGUF``.
MAGIC = b"PWRI"

#: Format of predictors as we keep them: tensors ``"{layer}.first"`` [R, H] and
#: ``"{layer}.second"`` [I, R], of the predictor second relu(first v).
PREDICTORS_FORMAT = "pytest-sparsity neuron predictors 2"


@dataclass(frozen=True)
class Header:
    """The keys of a file, asked for by name.

    Attributes:
        keys: its metadata; of arrays the length.
        names: of its tensors.
        where: begins the messages.
    """

    keys: Mapping[str, Any]
    names: Collection[str]
    where: str

    @property
    def architecture(self) -> str:
        """The architecture by the engine's name."""
        return str(self.keys["general.architecture"])

    def get(self, key: str, default: Any = None, *, own: bool = True) -> Any:
        """A number; a missing one without a default is the user's to mend."""
        key = f"{self.architecture}.{key}" if own else key
        found = self.keys.get(key, default)
        if found is None or isinstance(found, (str, bool)):
            raise SparsityError(
                f"{self.where} has {found!r} for the key {key}, which every file of architecture "
                f"{self.architecture} has as a number; convert the model again"
            )
        return found

    def count(self, key: str, default: int | None = None, *, own: bool = True) -> int:
        """The value of a key that must be a whole number from 1."""
        found = self.get(key, default, own=own)
        if not isinstance(found, int) or found < 1:
            key = f"{self.architecture}.{key}" if own else key
            raise SparsityError(
                f"{self.where} has {found!r} for the key {key}, which is a whole number from 1; "
                "convert the model again"
            )
        return found


@dataclass(frozen=True)
class ModelSizes:
    """How large a model is; ``common`` is what every configuration says."""

    layers: int
    hidden: int
    neurons: int
    heads: int
    kv_heads: int
    tokens: int
    common: Mapping[str, Any]

    @property
    def kv(self) -> int:
        """Rows of k and of v."""
        return self.hidden // self.heads * self.kv_heads


def sizes_of(header: Header) -> ModelSizes:
    """The sizes that files of every architecture state.

    Raises:
        SparsityError: a key is missing, or sizes do not divide.
    """
    heads = header.count("attention.head_count")
    sizes = ModelSizes(
        header.count("block_count"),
        header.count("embedding_length"),
        header.count("feed_forward_length"),
        heads,
        header.count("attention.head_count_kv", heads),
        header.count("tokenizer.ggml.tokens", own=False),
        {
            "dtype": "float32",
            **{
                ours: header.keys.get(f"tokenizer.ggml.{theirs}_token_id")
                for ours, theirs in (
                    ("bos_token_id", "bos"),
                    ("eos_token_id", "eos"),
                    ("pad_token_id", "padding"),
                )
            },
        },
    )
    width, rest = divmod(sizes.hidden, heads)
    if rest or width % 2 or heads % sizes.kv_heads:
        raise SparsityError(
            f"{header.where} has {heads} heads and {sizes.kv_heads} of keys for "
            f"{sizes.hidden} channels, which do not divide; convert the model again"
        )
    return sizes


def rope_settings(header: Header, sizes: ModelSizes) -> dict[str, Any]:
    """The rotary part of a configuration.

    Raises:
        SparsityError: the angles are such that transformers would compute others.
    """
    width = sizes.hidden // sizes.heads
    if (found := header.get("rope.dimension_count", width)) != width:
        raise SparsityError(
            f"{header.where} rotates {found} of the {width} channels of a head, which PowerInfer's "
            f"engine refuses for architecture {header.architecture}; convert the model again"
        )
    factor = header.get("rope.scaling.factor", 0.0) or header.get("rope.scale_linear", 1.0)
    kind = header.keys.get(f"{header.architecture}.rope.scaling.type", "linear")
    settings: dict[str, Any] = {"rope_theta": float(header.get("rope.freq_base", 10000.0))}
    if kind == "linear" and factor != 1:
        settings["rope_scaling"] = {"rope_type": "linear", "factor": float(factor)}
    elif kind not in ("linear", "none"):
        raise SparsityError(
            f"{header.where} scales its rotary angles by {kind!r}, which is not read; pass a file "
            "whose angles are not scaled, or scaled linearly"
        )
    return settings
