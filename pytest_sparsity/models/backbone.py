"""Which linear layer of a transformers model is which site.

Families that are built alike are mapped by a table of names (``LAYOUTS``), without running the
model; all others by what they compute (:mod:`~pytest_sparsity.models.finding`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.models.elsewhere import offloaded
from pytest_sparsity.models.kinds import ALL_KINDS
from pytest_sparsity.models.language_model import Site
from pytest_sparsity.models.plain_layers import is_layer_of_others, linear_layers

if TYPE_CHECKING:
    import torch

    from pytest_sparsity.models.finding import Mapped

#: The end of a layer's path in its decoder block -> kind of site, one of ``ALL_KINDS``.
SiteLayout = Mapping[str, str]

#: One table per family of architectures.
#: A model is mapped by the table that names most matrices of its first decoder block, and has to
#: be mapped by it wholly; tables may name layers that some of their models lack.
LAYOUTS: tuple[SiteLayout, ...] = (
    # Llama, Qwen 2 and 3, Gemma 1 to 3, Mistral; Arcee has no gate
    {
        "q_proj": "q",
        "k_proj": "k",
        "v_proj": "v",
        "o_proj": "o",
        "gate_proj": "gate",
        "up_proj": "up",
        "down_proj": "down",
    },
    # OPT
    {
        "self_attn.q_proj": "q",
        "self_attn.k_proj": "k",
        "self_attn.v_proj": "v",
        "self_attn.out_proj": "o",
        "fc1": "up",
        "fc2": "down",
    },
    # GPT-NeoX (Pythia): the rows of query_key_value are interleaved by heads
    {
        "attention.query_key_value": "qkv",
        "attention.dense": "o",
        "mlp.dense_h_to_4h": "up",
        "mlp.dense_4h_to_h": "down",
    },
    # Falcon: fused as GPT-NeoX's, or by groups of heads
    {
        "self_attention.query_key_value": "qkv",
        "self_attention.dense": "o",
        "mlp.dense_h_to_4h": "up",
        "mlp.dense_4h_to_h": "down",
    },
    # GPT-2
    {
        "attn.c_attn": "qkv",
        "attn.c_proj": "o",
        "mlp.c_fc": "up",
        "mlp.c_proj": "down",
    },
)


def use_linear_layers(model: torch.nn.Module) -> None:
    """Exchange the linear layers that are no plain ``nn.Linear``, in place, by equal ones that are.

    ``Conv1D`` (GPT-2) computes x W + b with W [K, N].  The new layer's weight is [N, K],
    contiguous and as frozen as the old one, so that everything that reads, changes or copies the
    weights of a site needs to know one layout only.  The model can be saved no more: its tensors
    have other shapes than its configuration says.  ``FalconLinear`` is an ``nn.Linear`` with a
    forward of its own that computes the same; the new layer has its parameters.  What experts
    have in one stack becomes a layer each, see :mod:`~pytest_sparsity.models.experts`, and what a
    mixer multiplies from the left a layer, see :mod:`~pytest_sparsity.models.left_products`.

    Raises:
        SparsityError: one that is to be exchanged is offloaded: a new one would have no weights.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    from pytest_sparsity.models.experts import stacked_parameters, use_expert_layers
    from pytest_sparsity.models.grouped_experts import grouped_layer, grouped_parameter
    from pytest_sparsity.models.left_products import use_left_layers
    from pytest_sparsity.models.separate_experts import follow_experts

    for parent in list(model.modules()):
        before = dict(parent.named_children())
        use_left_layers(parent)
        for name, layer in list(parent.named_children()):
            if layer is not before.get(name):
                _check_here(before.get(name, parent))
            elif isinstance(layer, Conv1D):
                _check_here(layer)
                linear = torch.nn.Linear(layer.nx, layer.nf, device="meta").train(layer.training)
                weight = layer.weight.detach().t().contiguous()
                linear.weight = torch.nn.Parameter(weight, layer.weight.requires_grad)
                linear.bias = layer.bias
                setattr(parent, name, linear)
            # By name: importing Falcon for every model would cost each of them a moment.
            elif type(layer).__name__ == "FalconLinear":
                _check_here(layer)
                own: Any = layer
                linear = torch.nn.Linear(own.in_features, own.out_features, device="meta")
                linear.train(own.training)
                linear.weight, linear.bias = own.weight, own.bias
                setattr(parent, name, linear)
            elif any(stacked_parameters(layer)):
                _check_here(layer)
                use_expert_layers(layer)
            elif grouped_parameter(layer) is not None:
                _check_here(layer)
                setattr(parent, name, grouped_layer(layer))
    follow_experts(model)


def _check_here(layer: torch.nn.Module) -> None:
    if offloaded(layer):
        raise SparsityError(
            f"the weights of a {type(layer).__name__} are offloaded, and it has to be exchanged "
            "for linear layers; load the model without offloading (no device_map, no cpu_offload)"
        )


def check_layout(layout: SiteLayout, what: str) -> None:
    """See that a layout of others says something, in the words for sites.

    Args:
        layout: of others.
        what: it is, for the message.

    Raises:
        SparsityError: it is empty, or names a kind of site that there is none of.
    """
    wrong = [kind for kind in layout.values() if kind not in ALL_KINDS]
    if wrong or not layout:
        found = f"{wrong[0]!r} is no kind of site" if wrong else "it names no layer"
        raise SparsityError(
            f"{what}: {found}; give the ends of layers' paths in a decoder block, each with one of "
            f"{', '.join(ALL_KINDS)}"
        )


def find_sites(model: torch.nn.Module, layout: SiteLayout | None = None) -> tuple[Site, ...]:
    """Every linear layer in the decoder blocks of ``model`` that text goes through.

    They stand by layer and then by kind.  The output head is outside the blocks and not a site.

    Args:
        model: of transformers, after :func:`use_linear_layers`.
        layout: names its layers; None for a table of ``LAYOUTS``, or for what a pass shows.

    Raises:
        SparsityError: see :func:`map_model`.
    """
    return map_model(model, layout).sites


def map_model(model: torch.nn.Module, layout: SiteLayout | None = None) -> Mapped:
    """The sites of ``model``, and what its decoder blocks hold besides.

    Args:
        model: of transformers, after :func:`use_linear_layers`.
        layout: see :func:`find_sites`.

    Raises:
        SparsityError: the blocks cannot be found, do not run on tokens alone, are built of other
            things than linear layers for more than a fiftieth, or the layout does not fit.
    """
    from pytest_sparsity.models.finding import Mapped, map_by_products

    if layout is not None:
        return Mapped(_by_layout(model, layout), ())
    try:
        _, blocks = _decoder_blocks(model)
        layout = max(LAYOUTS, key=lambda candidate: _named(blocks[0], candidate))
        # Layers that attend to images are not run on text, which no name tells.
        if not any("cross" in name for name, _ in blocks.named_modules()):
            return Mapped(_by_layout(model, layout), ())
    except SparsityError:
        pass
    return map_by_products(model)


def _by_layout(model: torch.nn.Module, layout: SiteLayout) -> tuple[Site, ...]:
    """The sites of a model whose blocks are alike and named by ``layout`` wholly.

    Raises:
        SparsityError: they are not.
    """
    path, blocks = _decoder_blocks(model)
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
    sites = [
        Site(f"{number}.{kind}", number, kind, linears[kind])
        for number, linears in enumerate(layers)
        for kind in ALL_KINDS
        if kind in linears
    ]
    first: dict[int, Site] = {}
    for site in sites:
        if (other := first.setdefault(id(site.module), site)) is not site:
            # Its bias would be that of the site which is folded last.
            raise SparsityError(
                f"{type(model).__name__} cannot be sparsified: {other.name} and {site.name} are "
                "one layer, which can have one bias only; use a model whose layers have their own"
            )
    return tuple(sites)


def _decoder_blocks(model: torch.nn.Module) -> tuple[str, torch.nn.ModuleList]:
    """The outermost list with as many modules as the configuration has layers."""
    import torch

    config: Any = model.config
    count = getattr(config.get_text_config(), "num_hidden_layers", None)
    found: list[tuple[str, torch.nn.ModuleList]] = []
    for path, module in model.named_modules():
        inside = any(path.startswith(f"{outer}.") for outer, _ in found)
        if isinstance(module, torch.nn.ModuleList) and len(module) == count and not inside:
            found.append((path, module))
    if len(found) == 1:  # two: an encoder of images has as many layers
        return found[0]
    raise SparsityError(
        f"{type(model).__name__} cannot be sparsified: {len(found)} of its lists have {count} "
        "decoder blocks and one should; use a decoder-only model such as Llama, Qwen, Gemma, "
        "Mistral, OPT, Falcon, GPT-NeoX or GPT-2"
    )


def _matrices(block: torch.nn.Module) -> Iterator[tuple[str, str]]:
    """(module, parameter) names of everything in ``block`` that multiplies: two axes or more."""
    layers = dict.fromkeys((path for path, _ in linear_layers(block)), False)
    for name, parameter in block.named_parameters():
        inside = next((path for path in layers if name.startswith(f"{path}.")), None)
        if inside is None and parameter.ndim >= 2:
            owner, _, leaf = name.rpartition(".")
            yield owner, leaf
        elif inside is not None and not layers[inside]:
            layers[inside] = True  # once, of however many parameters it is made
            yield inside, "weight"
    yield from ((path, "weight") for path, seen in layers.items() if not seen)


def _kind(owner: str, layout: Mapping[str, str]) -> str | None:
    """What ``layout`` calls the module ``owner`` of a block; None if it does not name it."""
    return next((kind for end, kind in layout.items() if f".{owner}".endswith(f".{end}")), None)


def _named(block: torch.nn.Module, layout: Mapping[str, str]) -> int:
    """How many kinds of sites ``layout`` finds in ``block``."""
    return len({_kind(owner, layout) for owner, _ in _matrices(block)} - {None})


def _linears(
    block: torch.nn.Module, layout: Mapping[str, str], where: str
) -> dict[str, torch.nn.Linear]:
    """The block's linear layers by kind, in the layout's words."""
    import torch

    found: dict[str, Any] = {}
    for owner, leaf in _matrices(block):
        module = block.get_submodule(owner)
        kind = _kind(owner, layout)
        linear = isinstance(module, torch.nn.Linear) or is_layer_of_others(module)
        if leaf != "weight" or not linear:
            fix = "only torch.nn.Linear layers can be; use a model that is built from them"
        elif kind is None:
            fix = (
                "no layout names it; give one with the model (OwnModel, hook "
                "pytest_sparsity_models), or add its family to LAYOUTS in "
                "pytest_sparsity.models.backbone"
            )
        elif kind in found:
            fix = f"a second {kind!r} in one layer; use a model without several of them"
        else:
            found[kind] = module
            continue
        raise SparsityError(f"{where}.{owner} ({type(module).__name__}) is not mapped: {fix}")
    return found
