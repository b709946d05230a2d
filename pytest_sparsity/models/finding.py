"""Which products with weights a model's decoder blocks compute, found by running it once."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from torch import nn

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.models.kinds import ALL_KINDS, kind_of_path
from pytest_sparsity.models.language_model import Site
from pytest_sparsity.models.plain_layers import linear_layers, shape_of
from pytest_sparsity.models.products import TOKENS, Watched, pointer_of, run_of, watch
from pytest_sparsity.models.separate_experts import SHARED, check_routed

#: Most of a block's weights that may be exempt for a model to be mapped.
LARGEST_EXEMPT = 0.02
#: Width from which on a model is as it was meant, and no shrunk twin.
_NARROW = 256


@dataclass(frozen=True)
class Exempt:
    """Weights of a decoder block that are no site's.

    Attributes:
        name: ``"{layer}.{path in the block}"`` of the parameter.
        weights: how many.
        reason: why they are none's.
    """

    name: str
    weights: int
    reason: str


@dataclass(frozen=True)
class Mapped:
    """What a model's decoder blocks are made of: every weight is a site's, or exempt.

    Attributes:
        sites: by layer, then in the order of ``ALL_KINDS``, the experts' last.
        exempt: all else of two axes or more.
    """

    sites: tuple[Site, ...]
    exempt: tuple[Exempt, ...]

    @property
    def exempt_share(self) -> float:
        """Of the weights that the blocks multiply with, the fraction that is no site's."""
        no_product = (NOT_RUN, _ELEMENTWISE)
        left = sum(each.weights for each in self.exempt if each.reason not in no_product)
        return left / (left + sum(math.prod(shape_of(site.module)) for site in self.sites))


NOT_RUN = "is not run on text"
_OUTSIDE = "is multiplied outside of a linear layer's forward"
_ROUTER = "decides which experts a token goes to"
_CONVOLUTION = "is a convolution"
_ELEMENTWISE = "scales or shifts elements"

_ROUTERS = re.compile(r"(^|\.)(\w*router\w*|gate|shared_expert_gate|classifier)(\.|$)")


def map_by_products(model: nn.Module) -> Mapped:
    """Every product with a weight in the decoder blocks, from one pass over four tokens.

    A linear layer whose forward runs in it is a site.  The pass also shows every multiplication
    with a weight that is made outside of a linear layer; those are exempt, with the reason.

    Args:
        model: of transformers, after :func:`~.backbone.use_linear_layers`.

    Raises:
        SparsityError: it has no decoder blocks, does not run on tokens alone, or computes more
            than 2 % of the blocks' weights outside of linear layers.
    """
    blocks = _called_blocks(model)
    watched = watch(model, [block for _, block in blocks])
    sites: list[Site] = []
    exempt: list[Exempt] = []
    taken: set[int] = set()
    for number, (_, block) in enumerate(blocks):
        found, left = _of_block(number, block, watched)
        exempt += left
        # A layer that stands in several places is a site in the first of them.
        sites += [site for site in found if id(site.module) not in taken]
        taken |= {id(site.module) for site in found}
    check_routed(model, sites)
    mapped = Mapped(tuple(sites), tuple(exempt))
    _check(model, mapped)
    return mapped


def _check(model: nn.Module, mapped: Mapped) -> None:
    if not mapped.sites:
        raise SparsityError(
            f"{type(model).__name__} cannot be sparsified: its decoder blocks hold no linear "
            "layer; use a model that is built from torch.nn.Linear layers"
        )
    inside = [each for each in mapped.exempt if each.reason.startswith(_OUTSIDE)]
    own = sum(each.weights for each in inside)
    share = own / (own + sum(math.prod(shape_of(s.module)) for s in mapped.sites))
    # What does not grow with the square of the width is a larger share of a narrow model.
    if share > (LARGEST_EXEMPT if _width(model) >= _NARROW else 10 * LARGEST_EXEMPT):
        worst = max(inside, key=lambda each: each.weights)
        raise SparsityError(
            f"{type(model).__name__} cannot be sparsified: it is mapped in part only, {share:.0%} "
            f"of the weights of its decoder blocks are no linear layer's: {worst.name} "
            f"{worst.reason}; use a model that is built from torch.nn.Linear layers"
        )


def _called_blocks(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """(path, block) of the decoder blocks, in order: members of the outermost lists that are run.

    A list as long as the configuration says is taken alone; it is what encoders of images and
    sounds, whose lists are as long by accident, are told apart by.
    """
    config: Any = model.config
    count = getattr(config.get_text_config(decoder=True), "num_hidden_layers", None)
    lists: list[tuple[str, nn.ModuleList]] = []
    for path, module in model.named_modules():
        inside = any(path.startswith(f"{outer}.") for outer, _ in lists)
        if isinstance(module, nn.ModuleList) and not inside and _weights(module):
            lists.append((path, module))
    if not lists:
        raise SparsityError(
            f"{type(model).__name__} cannot be sparsified: it has no list of decoder blocks; use a "
            "decoder-only model such as Llama, Qwen, Gemma, Mistral, OPT, Falcon, GPT-NeoX or GPT-2"
        )
    run = run_of(model, [member for _, members in lists for member in members])
    called = [
        (path, members) for path, members in lists if any(id(each) in run for each in members)
    ]
    exact = [(path, members) for path, members in called if len(members) == count]
    largest = max(called, key=lambda each: _weights(each[1]), default=None)
    chosen = exact[:1] if exact and largest in exact else called
    return [(f"{p}.{n}", block) for p, members in chosen for n, block in enumerate(members)]


def _width(model: nn.Module) -> int:
    embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
    return int(embedding.weight.shape[1])


def _weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.ndim >= 2)


def _of_block(number: int, block: nn.Module, watched: Watched) -> tuple[list[Site], list[Exempt]]:
    """The sites of one block, in order, and what is exempt of it."""
    layers: dict[str, Any] = {}
    exempt: list[Exempt] = []
    others = {path: layer for path, layer in linear_layers(block) if _is_of_others(layer)}
    for path, layer in others.items():
        if _ROUTERS.search(path):
            exempt.append(Exempt(f"{number}.{path}", math.prod(shape_of(layer)), _ROUTER))
        else:
            layers[path] = layer
    for path, module in block.named_modules():
        if any(path == other or path.startswith(f"{other}.") for other in others):
            continue
        for leaf, parameter in module.named_parameters(recurse=False):
            if parameter.ndim < 2:
                continue
            reason = _reason(path, module, leaf, parameter, watched)
            if reason is None:
                assert isinstance(module, nn.Linear)
                layers[path] = module
            else:
                name = f"{number}.{path}.{leaf}" if path else f"{number}.{leaf}"
                exempt.append(Exempt(name, parameter.numel(), reason))
    exempt += _never_run(number, layers, watched)
    return _named(number, layers, watched), exempt


def _is_of_others(layer: nn.Module) -> bool:
    """Whether a layer is another library's, made of whatever parameters, or makes its weight."""
    return not isinstance(layer, nn.Linear) or "weight" not in layer._parameters


def _reason(
    path: str, module: nn.Module, leaf: str, parameter: nn.Parameter, watched: Watched
) -> str | None:
    """Why a parameter of a block is no site's; None if it is one's."""
    if isinstance(module, nn.modules.conv._ConvNd):
        return _CONVOLUTION
    if _ROUTERS.search(path) or "Router" in type(module).__name__:
        return _ROUTER
    outside = watched.outside.get(pointer_of(parameter))
    if isinstance(module, nn.Linear) and leaf == "weight" and outside is None:
        return None
    if outside is None:
        return _ELEMENTWISE
    return f"{_OUTSIDE} ({type(module).__name__})"


def _never_run(number: int, layers: dict[str, nn.Linear], watched: Watched) -> list[Exempt]:
    """Take out of ``layers`` those that no text comes to, and say so.

    An expert that the few tokens were not routed to is run where another one of its kind was.
    """
    run = {_alike(path) for path, layer in layers.items() if id(layer) in watched.rows}
    idle = [path for path in layers if _alike(path) not in run]
    return [
        Exempt(f"{number}.{path}.weight", math.prod(shape_of(layers.pop(path))), NOT_RUN)
        for path in idle
    ]


def _alike(path: str) -> str:
    """A path without the number of an expert."""
    return path if "expert" not in path else re.sub(r"(^|\.)\d+(?=\.|$)", r"\1*", path)


def _named(number: int, layers: dict[str, nn.Linear], watched: Watched) -> list[Site]:
    """Sites with names: ``"{layer}.{kind}"``, with a group between them where one is needed."""
    kinds = {path: kind_of_path(path) for path in layers}
    kinds |= _by_widths(layers, kinds)
    groups = {path: _group(path, kinds[path]) for path in layers}
    for whole in (False, True):
        taken = Counter((groups[path], kinds[path]) for path in layers)
        twice = [path for path in layers if taken[groups[path], kinds[path]] > 1]
        groups |= {path: path if whole else path.rpartition(".")[0] for path in twice}
    share = _routed_share(layers, groups, watched)
    sites = []
    for path, layer in layers.items():
        name = ".".join(part for part in (str(number), groups[path], kinds[path]) if part)
        runs, rows = watched.runs.get(id(layer), 1), watched.rows.get(id(layer), TOKENS)
        site = Site(name, number, kinds[path], layer, runs, rows / (TOKENS * runs))
        sites.append(replace(site, places=1, share=share[path]) if site.routed else site)
    order = list(dict.fromkeys(site.group for site in sites))
    order.sort(key=lambda group: (bool(group), group.startswith("experts.")))
    places = {group: place for place, group in enumerate(order)}
    return sorted(sites, key=lambda s: (places[s.group], ALL_KINDS.index(s.kind)))


def _group(path: str, kind: str) -> str:
    """What stands between layer and kind: which expert, ``shared``, or a path."""
    if kind == "proj":
        return path.removesuffix(".linear")
    if (expert := re.search(r"\.(\d+)(?=\.|$)", path)) is not None and "expert" in path:
        return f"{'shared' if SHARED.search(path) else 'experts'}.{expert[1]}"
    return "shared" if SHARED.search(path) else ""


def _by_widths(layers: Mapping[str, nn.Linear], kinds: Mapping[str, str]) -> dict[str, str]:
    """Other kinds of layers that are named like an MLP's, by what can come to ``down``.

    Where ``up`` gives twice as much as ``down`` reads it is gate and up in one; where widths do
    not fit at all, it is no MLP.
    """
    owners: dict[str, dict[str, list[str]]] = {}
    for path, kind in kinds.items():
        if kind in ("gate", "up", "down", "gate_up"):
            # Grouped experts stand behind their kind: fc1.experts.0 and fc2.experts.0.
            alike = _alike(path).removesuffix(".experts.*")
            owners.setdefault(alike.rpartition(".")[0], {}).setdefault(kind, []).append(path)
    found: dict[str, str] = {}
    for own in owners.values():
        first = own.get("up", own.get("gate_up"))
        if first is None or "down" not in own:
            continue
        times = layers[first[0]].out_features / layers[own["down"][0]].in_features
        if "gate" not in own and times == 2:
            found |= dict.fromkeys(first, "gate_up")
        elif times != (2 if "gate_up" in own else 1):
            found |= dict.fromkeys(chain.from_iterable(own.values()), "proj")
    return found


def _routed_share(
    layers: Mapping[str, nn.Linear], groups: Mapping[str, str], watched: Watched
) -> dict[str, float]:
    """Of the tokens of the pass, which fraction came to the average expert."""
    experts = [path for path in layers if groups[path].startswith("experts.")]
    pools: dict[str, list[nn.Linear]] = {}
    for path in experts:
        pools.setdefault(_alike(path), []).append(layers[path])
    shares = {
        alike: sum(watched.rows.get(id(layer), 0) for layer in pool) / (TOKENS * len(pool))
        for alike, pool in pools.items()
    }
    return {path: shares[_alike(path)] for path in experts}
