"""A loaded language model and the sites at which it can be sparsified."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.models.elsewhere import execution_device
from pytest_sparsity.models.kinds import FUSED
from pytest_sparsity.models.parameter_dtypes import dtype_of
from pytest_sparsity.models.passes import Passes
from pytest_sparsity.models.unchanged import check_layers, check_not_compiled, check_not_split

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: What models call the state of a sequence that they return and go on from.
CACHE_NAMES = ("past_key_values", "cache_params", "state")


@dataclass(frozen=True)
class Site:
    """The input of one linear layer.

    Attributes:
        name: ``"{layer}.{kind}"``, for example ``"12.down"``, with a group between them where a
            layer has several of a kind: ``"12.experts.3.down"``, ``"12.shared.down"``.
        layer: index of the decoder block, from 0; the first of them where several share it.
        kind: one of ``ALL_KINDS``.
        module: the linear layer, weight [N, K].
        places: how often a pass runs it: more than once where layers share it.
        share: of all tokens, the fraction that comes to it each time, as far as the architecture
            says: top k of E for an expert of E.
    """

    name: str
    layer: int
    kind: str
    module: nn.Linear
    places: int = 1
    share: float = 1.0

    @property
    def group(self) -> str:
        """The name without layer and kind: empty, or which expert's (or other part's) it is."""
        return self.name.partition(".")[2].rpartition(".")[0]

    @property
    def routed(self) -> bool:
        """Whether it is an expert's, to which a router sends some of the tokens."""
        return self.group.startswith("experts.")

    @property
    def even(self) -> bool:
        """Whether every token comes to it once."""
        return self.places == 1 and self.share == 1 and not self.routed

    @property
    def pool(self) -> str:
        """The name without the number of the expert: what experts of a layer have in common."""
        return f"{self.layer}.experts.{self.kind}" if self.routed else self.name

    @property
    def parts(self) -> tuple[str, ...]:
        """The ``KINDS`` that the layer computes: more than one where the model fuses them."""
        return FUSED.get(self.kind, (self.kind,))


@dataclass(frozen=True, eq=False, repr=False)
class LanguageModel:
    """A causal language model, in eval mode and with frozen weights.

    Attributes:
        name: short name, safe in test ids.
        source: what was asked for: a known name, a path or a hub id.
        model: the transformers model.
        tokenizer: its tokenizer.
        weights_hash: hex SHA-256 over the weight files, or over the tensors of a model that
            is built in code; the same for every dtype.
        dtype: dtype of the weights.
        sites: in natural layer order, then in the order of ``KINDS``.
        first_tokens: what must stand before every text, because the tokenizer puts it there: BOS
            (Gemma), several (GLM), or nothing.
        network_hash: hex SHA-256 over what says what the weights do, configuration and
            tokenizer; empty for a model that is built in code.
        predictors: file with the predictors of neurons that came with the model, as
            :mod:`pytest_sparsity.models.powerinfer_gguf` writes it; None if none did.
        notice: what every record of it says, such as that its weights are random; may be empty.
        paths: site to where its layer stood in ``model`` when this was made, as
            ``model.get_submodule`` takes it.
    """

    name: str
    source: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    weights_hash: str
    dtype: torch.dtype
    sites: tuple[Site, ...]
    first_tokens: tuple[int, ...] = ()
    network_hash: str = ""
    predictors: Path | None = None
    notice: str = ""
    #: Shared with its twins, which compute alike.
    _passes: Passes = field(default_factory=Passes)
    paths: Mapping[str, str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        names = {id(module): name for name, module in self.model.named_modules()}
        paths = {site.name: names.get(id(site.module), "") for site in self.sites}
        object.__setattr__(self, "paths", paths)

    def __repr__(self) -> str:
        return f"<{self.name}, {str(self.dtype).removeprefix('torch.')} on {self.device}>"

    @property
    def device(self) -> torch.device:
        """Where the weights are, and tokens go."""
        device: torch.device = self.model.device
        return execution_device(self.model) if device.type == "meta" else device

    @property
    def bos(self) -> int | None:
        """The token that every sequence starts with, None if any may."""
        return self.first_tokens[0] if self.first_tokens else None

    @cached_property
    def decoder(self) -> nn.Module:
        """Everything up to the last hidden states."""
        base: nn.Module = self.model.base_model
        if base is self.model:  # transformers 4 looks for Gemma 3's under another name
            base = self.model.get_submodule("model")
        # OPT's causal model does not call its base model, but the decoder inside that.
        return getattr(base, "decoder", base)

    def into_mlp(self, layer: int) -> str:
        """The kind of the site whose input a layer's MLP reads: ``up``, or ``gate_up``."""
        fused = any(site.name == f"{layer}.gate_up" for site in self.sites)
        return "gate_up" if fused else "up"

    def block_of(self, sites: Sequence[Site]) -> nn.Module:
        """The innermost module that holds these sites: what their names begin with in common."""
        names = {id(module): name for name, module in self.model.named_modules()}
        paths = [names[id(site.module)].split(".") for site in sites]
        common = []
        for parts in zip(*paths, strict=False):
            if len(set(parts)) > 1:
                break
            common.append(parts[0])
        found: nn.Module = self.model.get_submodule(".".join(common))
        return found

    @cached_property
    def cache_name(self) -> str:
        """The argument that takes a cache, and the field of the output that returns it."""
        known = inspect.signature(self.decoder.forward).parameters
        return next((name for name in CACHE_NAMES if name in known), CACHE_NAMES[0])

    @cached_property
    def takes_use_cache(self) -> bool:
        """Whether the decoder can be told to make a cache, or not to; OpenAI's GPT has none."""
        known = inspect.signature(self.decoder.forward).parameters.values()
        return any(each.name == "use_cache" or each.kind is each.VAR_KEYWORD for each in known)

    @cached_property
    def head(self) -> nn.Module:
        """The projection of the last hidden states on the vocabulary."""
        head: nn.Module | None = self.model.get_output_embeddings()  # type: ignore[no-untyped-call]
        if head is None:
            raise SparsityError(
                f"--sparsity-model {self.source}: {type(self.model).__name__} has no output "
                "embeddings (get_output_embeddings), by which its logits are made; pass another "
                "model"
            )
        return head

    @cached_property
    def before_head(self) -> nn.Module | None:
        """What stands between the last hidden states and :attr:`head`; None if nothing does."""
        found: nn.Module | None = getattr(self.model, "lm_head", None)
        # ModernBERT's decoder has a layer and a norm under the name that others give the head.
        apart = found is not None and all(each is not self.head for each in found.modules())
        return found if apart else None

    def check_unchanged(self) -> None:
        """See that what is attached at the sites will have its effect.

        Raises:
            SparsityError: a site's layer was exchanged or wrapped since the sites were found, or
                the model was compiled, or split over processes.
        """
        self._check_layers()
        check_not_compiled(self.model, self.name)
        check_not_split(self.model, self.name)

    def _check_layers(self) -> None:
        layers = {site.name: site.module for site in self.sites}
        check_layers(self.model, self.name, layers, self.paths)

    def twin(self, dtype: torch.dtype | None = None) -> LanguageModel:
        """A second model over the same weights: modules are copied, tensors are shared.

        A plan attached to the twin does not touch this model, and costs no memory.

        Raises:
            SparsityError: a site's layer is no longer in the model.

        Args:
            dtype: another one for the twin.  Its parameters are then cast copies, but those that
                transformers keeps in float32, and what is tied stays tied; buffers, such as
                rotary angles, have dtypes of their own and are shared as ever.
        """
        from torch import nn

        self._check_layers()
        dtype = dtype or self.dtype
        shared = [*self.model.parameters(), *self.model.buffers()]
        memo = {id(tensor): tensor for tensor in shared}
        if dtype != self.dtype:
            for path, own in self.model.named_parameters():
                cast = own.detach().to(dtype_of(self.model, path, dtype))
                memo[id(own)] = nn.Parameter(cast, requires_grad=False)
        model = copy.deepcopy(self.model, memo)
        modules = dict(model.named_modules())
        names = {id(module): name for name, module in self.model.named_modules()}
        sites = tuple(replace(site, module=modules[names[id(site.module)]]) for site in self.sites)
        return replace(self, model=model, sites=sites, dtype=dtype)
