"""A model that has another name now: which record of the stored run is of which cell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from pytest_sparsity.sweep.record import Record


def other_name(before: Iterable[str], now: Iterable[str]) -> Mapping[str, str]:
    """The name that a stored model has now, by the one it had; empty where it is not clear.

    Clear is one model on either side that the other side lacks.

    Args:
        before: names of the stored models.
        now: names of the models of this run.
    """
    stored, fresh = set(before), set(now)
    gone, new = stored - fresh, fresh - stored
    return dict(zip(gone, new, strict=True)) if len(gone) == len(new) == 1 else {}


def renamed(record: Record, names: Mapping[str, str]) -> Record:
    """The record under the name that its model has now."""
    model = record.cell.configuration.model
    configuration = replace(record.cell.configuration, model=names.get(model, model))
    return replace(record, cell=replace(record.cell, configuration=configuration))
