"""What weights must be like to be compressed or folded; says so before any work is done."""

from __future__ import annotations

import math
from collections.abc import Iterable

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.models import LanguageModel, Site
from pytest_sparsity.models.compression.names import LOADED, Scheme
from pytest_sparsity.models.weights import plain_weight


def check(model: LanguageModel, scheme: Scheme) -> None:
    """See that ``scheme`` can be applied to every site of ``model``.

    Raises:
        SparsityError: groups or patterns do not divide a matrix, a weight is stored as
            something else than plain numbers, or a cast would change nothing.
    """
    if scheme.kind == str(model.dtype).removeprefix("torch."):
        raise SparsityError(
            f"weights {scheme.name}: that is the dtype that {model.name} was loaded in; use "
            f"{LOADED}, or another --sparsity-dtype"
        )
    for site in model.sites:
        outputs, inputs = plain_weight(site, model.name).shape
        if scheme.group and outputs % math.lcm(2, scheme.group):
            raise SparsityError(
                f"weights {scheme.name}: groups of {scheme.group} do not divide the {outputs} "
                f"outputs of {site.name} in {model.name}; {_groups_that_fit(model.sites, scheme)}"
            )
        if scheme.pattern is not None and inputs % scheme.pattern[1]:
            raise SparsityError(
                f"weights {scheme.name}: groups of {scheme.pattern[1]} do not divide the {inputs} "
                f"inputs of {site.name} in {model.name}; prune a share instead, such as "
                f"{scheme.kind}-0.5"
            )


def _groups_that_fit(sites: Iterable[Site], scheme: Scheme) -> str:
    common = math.gcd(*(site.module.out_features for site in sites))
    fitting = [g for g in range(2, scheme.group) if common % math.lcm(2, g) == 0]
    if not fitting:
        return "use int8"
    return f"use {scheme.kind}-{fitting[-1]}"
