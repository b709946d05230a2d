"""Which linear layer of a transformers model is which site."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pytest_sparsity.errors import SparsityError
from pytest_sparsity.models.language_model import KINDS, Site

if TYPE_CHECKING:
    import torch

#: One table per family of architectures: last part of a layer's name -> kind of site.
#: A model is mapped by the first table that names every matrix in its decoder blocks.
LAYOUTS: tuple[Mapping[str, str], ...] = (
    # Llama, Qwen 2 and 3, Gemma, Mistral
    {
        "q_proj": "q",
        "k_proj": "k",
        "v_proj": "v",
        "o_proj": "o",
        "gate_proj": "gate",
        "up_proj": "up",
        "down_proj": "down",
    },
)


def find_sites(model: torch.nn.Module) -> tuple[Site, ...]:
    """Every linear layer in the decoder blocks of ``model``, by layer and then by kind.

    The output head is outside the blocks and not a site.

    Raises:
        SparsityError: the blocks cannot be found, hold a matrix that no layout names, or
            differ from each other.
    """
    path, blocks = _decoder_blocks(model)
    layout = max(LAYOUTS, key=lambda candidate: len(_matrix_names(blocks[0]) & candidate.keys()))
    layers = [
        _linears(block, layout, f"{type(model).__name__} cannot be sparsified: {path}.{number}")
        for number, block in enumerate(blocks)
    ]
    for number, linears in enumerate(layers):
        if not linears or linears.keys() != layers[0].keys():
            raise SparsityError(
                f"{type(model).__name__} cannot be sparsified: layer {number} has the sites "
                f"{sorted(linears)} and layer 0 has {sorted(layers[0])}; use a model whose "
                "layers are alike"
            )
    return tuple(
        Site(f"{number}.{kind}", number, kind, linears[kind])
        for number, linears in enumerate(layers)
        for kind in KINDS
        if kind in linears
    )


def _decoder_blocks(model: torch.nn.Module) -> tuple[str, torch.nn.ModuleList]:
    """The outermost list with as many modules as the configuration has layers."""
    import torch

    config: Any = model.config
    count = config.get_text_config().num_hidden_layers
    for path, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return path, module
    raise SparsityError(
        f"{type(model).__name__} cannot be sparsified: it has no list of {count} decoder blocks; "
        "use a decoder-only model such as Llama, Qwen, Gemma or Mistral"
    )


def _matrices(block: torch.nn.Module) -> Iterator[tuple[str, str]]:
    """(module, parameter) names of everything in ``block`` that multiplies: two axes or more."""
    for name, parameter in block.named_parameters():
        if parameter.ndim >= 2:
            owner, _, leaf = name.rpartition(".")
            yield owner, leaf


def _matrix_names(block: torch.nn.Module) -> set[str]:
    return {owner.rpartition(".")[2] for owner, _ in _matrices(block)}


def _linears(
    block: torch.nn.Module, layout: Mapping[str, str], where: str
) -> dict[str, torch.nn.Linear]:
    """The block's linear layers by kind, in the layout's words."""
    import torch

    found: dict[str, torch.nn.Linear] = {}
    for owner, leaf in _matrices(block):
        module = block.get_submodule(owner)
        kind = layout.get(owner.rpartition(".")[2])
        if leaf != "weight" or not isinstance(module, torch.nn.Linear):
            fix = "only torch.nn.Linear layers can be; use a model that is built from them"
        elif kind is None:
            fix = "no layout names it; add its family to LAYOUTS in pytest_sparsity.models.backbone"
        elif kind in found:
            fix = f"a second {kind!r} in one layer; use a model without several of them"
        else:
            found[kind] = module
            continue
        raise SparsityError(f"{where}.{owner} ({type(module).__name__}) is not mapped: {fix}")
    return found
