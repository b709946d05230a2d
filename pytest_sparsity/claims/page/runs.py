"""The findings of several runs, as a page about them needs them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_sparsity.claims.finding import Finding
from pytest_sparsity.claims.store import Stored, stored
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.neurons.report import FILE, NeuronReport, read_reports

#: Settings that change what claims find.
DECISIVE_SETTINGS = (
    *("corpora", "calibration", "prefill", "dtype", "target", "data", "train"),
    "predictors",
)
#: What else all findings of a run have in common; "auto" of a setting may mean another dtype
#: or target on another machine.
_COMMON = ("profile", "seed", "sizes", "weights", "dtype", "target", "versions")


@dataclass(frozen=True)
class ClaimsRun:
    """What one run found about one model.

    Attributes:
        label: the model's name, and where there are other runs, profile and seed.
        model: short name.
        findings: by the number of their claim.
        origin: what the last of them depends on, see :func:`~.store.origin`.
        cost: what all of them took, in the same form as one finding's.
        neurons: reports on the model's neurons.
    """

    label: str
    model: str
    findings: Mapping[str, Finding]
    origin: Mapping[str, Any]
    cost: Mapping[str, Any]
    neurons: tuple[NeuronReport, ...]

    @property
    def slug(self) -> str:
        """The label as a part of file names."""
        return re.sub(r"[^A-Za-z0-9.-]+", "-", self.label)


def read_runs(folders: Iterable[Path]) -> list[ClaimsRun]:
    """The runs in report folders, in their order; a folder may hold several models.

    Raises:
        SparsityError: a folder holds no findings, or two runs differ in nothing.
    """
    found = [run for folder in folders for run in _read(folder)]
    labelled = [_labelled(run) for run in found] if len(found) > 1 else found
    labels = Counter(run.label for run in labelled)
    for label, count in labels.items():
        if count > 1:
            raise SparsityError(
                f"{count} of the runs are of {label}; name one of their report folders only"
            )
    return labelled


def _read(folder: Path) -> list[ClaimsRun]:
    findings, reports = stored(folder), read_reports(folder / FILE)
    if not findings:
        raise SparsityError(
            f"{folder} holds no finding; make some with --sparsity-suite=claims "
            f"--sparsity-report={folder}"
        )
    by_model: dict[str, list[Stored]] = {}
    for one in findings:
        by_model.setdefault(one.finding.model, []).append(one)
    for own in by_model.values():
        _check_one_run(folder, own)
    return [
        ClaimsRun(
            label=model,
            model=model,
            findings={one.finding.claim: one.finding for one in own},
            origin=own[-1].origin,
            cost=_cost(own),
            neurons=tuple(report for report in reports if report.model == model),
        )
        for model, own in by_model.items()
    ]


def _check_one_run(folder: Path, findings: Sequence[Stored]) -> None:
    """See that findings about one model were made alike.

    Raises:
        SparsityError: one was not, for instance left over from another profile.
    """
    newest = findings[-1]
    for one in findings:
        for name, found in alike(one.origin).items():
            wanted = alike(newest.origin)[name]
            if found != wanted:
                raise SparsityError(
                    f"{folder}: claims {one.finding.claim} and {newest.finding.claim} about "
                    f"{one.finding.model} were judged with different {name} ({found}, {wanted}); "
                    "judge all of them alike, or give each run a --sparsity-report of its own"
                )


def alike(origin: Mapping[str, Any]) -> dict[str, Any]:
    """What all findings of one run have in common, by name."""
    settings = {name: origin["settings"].get(name) for name in DECISIVE_SETTINGS}
    return {**settings, **{name: origin[name] for name in _COMMON}}


def _cost(findings: Iterable[Stored]) -> dict[str, Any]:
    """The cost of all findings; a configuration that several of them use counts once."""
    preparation: dict[str, Any] = {}
    for one in findings:
        preparation |= one.origin["cost"]["preparation"]
    return {"preparation": preparation}


def _labelled(run: ClaimsRun) -> ClaimsRun:
    origin = run.origin
    return replace(run, label=f"{run.model}, {origin['profile']}, seed {origin['seed']}")
