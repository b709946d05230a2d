"""Checks of the measurement itself: they run in every sweep and need no budget."""

from __future__ import annotations

from pytest_sparsity import LanguageModel
from pytest_sparsity.fixtures import (
    SweepSession,
    better_when_sparser,
    changed_at_level_zero,
    dropped_when_dense,
    dropped_when_sparse,
    sparse_configurations,
    verdicts_on_broken,
)
from pytest_sparsity.results import Outcome

POINTS = 0.02  # what thresholds achieve may differ this much from the target


def test_level_zero_is_dense(dense_model: LanguageModel, sparsity_session: SweepSession) -> None:
    """Sparsified at level 0, the model is bit for bit the dense one."""
    assert changed_at_level_zero(sparsity_session, dense_model) == []


def test_broken_model_fails(dense_model: LanguageModel, sparsity_session: SweepSession) -> None:
    """A model whose MLP reads the wrong channels fails every perplexity budget."""
    verdicts = verdicts_on_broken(sparsity_session, dense_model)
    survived = [v.message for v in verdicts if v.outcome is not Outcome.FAIL]
    assert not survived, "a broken model does not fail: " + "; ".join(survived)


def test_more_sparsity_is_not_better(
    dense_model: LanguageModel, sparsity_session: SweepSession
) -> None:
    """From level to level, perplexity does not fall significantly."""
    assert better_when_sparser(sparsity_session, dense_model.name) == []


def test_achieved_sparsity(dense_model: LanguageModel, sparsity_session: SweepSession) -> None:
    """On held-out text a method drops what it was asked to, and the sparse model as much."""
    for configuration in sparse_configurations(sparsity_session, dense_model.name):
        dropped = dropped_when_dense(sparsity_session, configuration)
        assert dropped.within(POINTS), f"{configuration.id}: {dropped}"
        achieved = dropped_when_sparse(sparsity_session, configuration)
        assert achieved >= dropped.asked - POINTS, configuration.id
