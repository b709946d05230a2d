"""The sites of a model whose layers were changed after it was loaded."""

from __future__ import annotations

from dataclasses import replace

from pytest_sparsity.core.errors import blaming
from pytest_sparsity.models.backbone import SiteLayout, find_sites
from pytest_sparsity.models.language_model import LanguageModel
from pytest_sparsity.models.libraries import adapters_of, check_foreign_layers_run
from pytest_sparsity.models.own import state_hash


def with_sites_found_anew(model: LanguageModel, layout: SiteLayout | None = None) -> LanguageModel:
    """The same model, with the sites that it has now.

    For when its layers were quantised, adapted or exchanged after it was loaded.  Its hash is that
    of the tensors that it has now, so that no number of before stands for it, and its notice says
    whether adapters (PEFT) are applied or merged.

    Args:
        model: as it is now, nothing attached.
        layout: of layers that no known layout names, as of an ``OwnModel``.

    Raises:
        SparsityError: it cannot be mapped to sites as it is now, or its layers do not run here.
    """
    check_foreign_layers_run(model.model, model.name)
    with blaming(model.name):
        sites = find_sites(model.model, layout)
    notice = adapters_of(model.model) or model.notice
    weights_hash = state_hash(model.model)
    return replace(model, sites=sites, weights_hash=weights_hash, notice=notice)
