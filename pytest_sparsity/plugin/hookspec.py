"""Hooks that other plugins and conftest files may implement.

Those that return something are called once per process, workers of pytest-xdist among them, before
anything is measured; the lists of all implementations are put together, and None counts as an empty
list.  They must return the same in every process.  Hooks that receive results are called on the
process that owns the terminal, and what they return is ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_sparsity.claims.finding import Finding
    from pytest_sparsity.evaluation.corpora import Corpus
    from pytest_sparsity.evaluation.tasks import Task
    from pytest_sparsity.methods.registry import Method
    from pytest_sparsity.models.own import OwnModel
    from pytest_sparsity.reporting.stored import GateDecision, StoredCheck
    from pytest_sparsity.reporting.summary import Section
    from pytest_sparsity.sweep.record import Record
    from pytest_sparsity.sweep.verdict import Verdict


@pytest.hookspec()
def pytest_sparsity_methods(config: pytest.Config) -> Sequence[Method]:  # type: ignore[empty-body]
    """Return methods to add to ``--sparsity-methods``."""


@pytest.hookspec()
def pytest_sparsity_models(config: pytest.Config) -> Sequence[OwnModel]:  # type: ignore[empty-body]
    """Return models that code makes, to add to ``--sparsity-model``."""


@pytest.hookspec()
def pytest_sparsity_tasks(config: pytest.Config) -> Sequence[Task]:  # type: ignore[empty-body]
    """Return tasks to add to ``--sparsity-tasks``.

    ``pytest_sparsity.hooks.make_task`` makes one.
    """


@pytest.hookspec()
def pytest_sparsity_corpora(config: pytest.Config) -> Sequence[Corpus]:  # type: ignore[empty-body]
    """Return texts to add to ``--sparsity-corpora`` and ``--sparsity-calibration``.

    ``pytest_sparsity.hooks.make_corpus`` makes one; one of each split may have the same name.
    """


@pytest.hookspec()
def pytest_sparsity_sections(  # type: ignore[empty-body]
    config: pytest.Config, verdicts: Sequence[Verdict]
) -> Sequence[Section]:
    """Return sections to add to the summary of a sweep; called once, when all is measured."""


@pytest.hookspec()
def pytest_sparsity_record(config: pytest.Config, record: Record) -> None:
    """Called with every record that a test measured or reused, when the test has ended.

    It is called again with the same id where a later test drew more data.
    """


@pytest.hookspec()
def pytest_sparsity_kernel_check(config: pytest.Config, check: StoredCheck) -> None:
    """Called with what every check of a kernel came to, when its test has ended."""


@pytest.hookspec()
def pytest_sparsity_gate(config: pytest.Config, decision: GateDecision) -> None:
    """Called with every decision of the gate, on speed and on accuracy, when its test has ended."""


@pytest.hookspec()
def pytest_sparsity_finding(config: pytest.Config, finding: Finding) -> None:
    """Called with every finding about a claim, when its test has ended."""


@pytest.hookspec()
def pytest_sparsity_verdict(config: pytest.Config, verdict: Verdict) -> None:
    """Called with every verdict of the summary, before it is written."""


@pytest.hookspec()
def pytest_sparsity_report(config: pytest.Config, folder: Path) -> None:
    """Called once with the report folder, when all of its files are written."""
