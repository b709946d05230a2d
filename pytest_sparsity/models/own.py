"""Models that code makes: known by a name as those of the catalogue are, and hashed as they are."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import OWN_NAME, sha256_text
from pytest_sparsity.models.backbone import SiteLayout, check_layout
from pytest_sparsity.models.catalog import KNOWN
from pytest_sparsity.models.folder import combined_hash
from pytest_sparsity.models.language_model import LanguageModel
from pytest_sparsity.models.loading import chosen_dtype, finished
from pytest_sparsity.models.tokens import tokens_hash

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: Of a name: what is safe in the ids of tests.
_NOT_ITS_OWN = ("torch", "transformers")


@dataclass(frozen=True)
class OwnModel:
    """A model that code makes, to be named with ``--sparsity-model``.

    Attributes:
        name: letters, digits, dots, dashes and underscores; none of the known models'.
        build: makes the model, a causal one of a class of transformers' kind or a ``PeftModel``
            around one, and its tokenizer; other libraries may have quantised or offloaded it.
            Every process calls it anew, so it must give the same weights each time.
        layout: names its linear layers, if the known layouts do not.
        licence: of the weights.

    Raises:
        SparsityError: the name or the layout cannot be.
    """

    name: str
    build: Callable[[], tuple[PreTrainedModel, PreTrainedTokenizerBase]]
    layout: SiteLayout | None = None
    licence: str = "not stated"

    def __post_init__(self) -> None:
        if not OWN_NAME.fullmatch(self.name) or self.name in KNOWN or self.name.endswith(".gguf"):
            why = "is a known model's" if self.name in KNOWN else "cannot stand in a test's id"
            raise SparsityError(
                f"OwnModel(name={self.name!r}): that name {why}; use another one of letters, "
                "digits, dots, dashes and underscores"
            )
        if self.layout is not None:
            check_layout(self.layout, f"OwnModel(name={self.name!r}, layout=...)")

    def load(self, *, dtype: str = "auto", device: str = "cpu") -> LanguageModel:
        """Make the model, and find its sites.

        Its hashes are over all tensors of its state, its configuration, its layout, its tokens,
        and the source files of its modules that are not torch's or transformers'; what stands in
        none of these is not seen to change.  Its notice says whether adapters (PEFT) are applied or
        merged.

        Args:
            dtype: as of :func:`~.loading.load_model`.
            device: as of :func:`~.loading.load_model`.

        Raises:
            SparsityError: ``build`` gives something else, or a layer is not mapped, or it is of
                another library and has another dtype than was asked for.
        """
        from pytest_sparsity.models.libraries import adapters_of, cast_or_keep

        target, torch_dtype = chosen_dtype(dtype, device)
        made: Any = self.build()
        model, tokenizer = _checked(made, self.name)
        weights, network = state_hash(model), self._network_hash(model, tokenizer)
        torch_dtype = cast_or_keep(model, torch_dtype, dtype, self.name)
        return finished(
            self.name,
            self.name,
            model,
            tokenizer,
            target,
            layout=self.layout,
            weights_hash=weights,
            dtype=torch_dtype,
            network_hash=network,
            notice=adapters_of(model),
        )

    def _network_hash(self, model: Any, tokenizer: PreTrainedTokenizerBase) -> str:
        """Hex SHA-256 over what says what the weights do."""
        config = {
            key: value
            for key, value in model.config.to_dict().items()
            # Where it was read from, and by what, changes nothing.
            if key not in ("_name_or_path", "transformers_version")
        }
        kinds = {type(module) for module in model.modules()}
        files = sorted({file for kind in kinds if (file := _own_source(kind)) is not None})
        return sha256_text(
            json.dumps(config, sort_keys=True, default=str),
            json.dumps(dict(self.layout or {}), sort_keys=True),
            tokens_hash(tokenizer),
            *sorted(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds),
            *(Path(file).read_text(encoding="utf-8") for file in files),
        )


def state_hash(model: torch.nn.Module) -> str:
    """Hex SHA-256 over names, dtypes, shapes and contents of a model's parameters and buffers.

    Those that accelerate offloaded count as they are stored, packed ones by their parts.
    """
    import torch

    from pytest_sparsity.models.libraries import plain_tensors

    def content(tensor: torch.Tensor) -> str:
        plain = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        shape = f"{tensor.dtype} {list(tensor.shape)}".encode()
        return hashlib.sha256(shape + plain.numpy().tobytes()).hexdigest()

    return combined_hash({name: content(t) for name, t in plain_tensors(model)})


def _own_source(kind: type) -> str | None:
    """The file of a module's class; None if it is a library's, or was written in a console."""
    if kind.__module__.partition(".")[0] in _NOT_ITS_OWN:
        return None
    try:
        return inspect.getsourcefile(kind)
    except (OSError, TypeError):
        return None


def _checked(made: Any, name: str) -> tuple[Any, PreTrainedTokenizerBase]:
    """What ``build`` made.

    Raises:
        SparsityError: it is no model and tokenizer.
    """
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pytest_sparsity.models.libraries import without_wrapper

    pair = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    model, tokenizer = without_wrapper(pair[0]), pair[1]
    if not isinstance(model, PreTrainedModel) or not isinstance(tokenizer, PreTrainedTokenizerBase):
        found = " and ".join(type(each).__name__ for each in pair)
        raise SparsityError(
            f"--sparsity-model {name}: its build() gave {found}; return a model and a tokenizer of "
            "transformers, (PreTrainedModel, PreTrainedTokenizerBase)"
        )
    if model.get_output_embeddings() is None:  # type: ignore[no-untyped-call]
        raise SparsityError(
            f"--sparsity-model {name}: {type(model).__name__} has no output embeddings, so it "
            "predicts no tokens; return the causal language model around it"
        )
    return model, tokenizer
