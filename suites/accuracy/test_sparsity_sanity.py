"""Checks of the measurement itself: they run in every sweep and need no budget."""

from __future__ import annotations

import pytest

from pytest_sparsity import Outcome, sanity

POINTS = 0.02  # achieved sparsity may differ this much from the target


def test_level_zero_is_dense(dense_model, sparsity_session):
    """Sparsified at level 0, the model is bit for bit the dense one."""
    assert sanity.changed_at_level_zero(sparsity_session, dense_model) == []


def test_broken_model_fails(dense_model, sparsity_session):
    """A model whose MLP reads the wrong channels fails every perplexity budget."""
    verdicts = sanity.verdicts_on_broken(sparsity_session, dense_model)
    survived = [v.message for v in verdicts if v.outcome is not Outcome.FAIL]
    assert not survived, "a broken model does not fail: " + "; ".join(survived)


def test_more_sparsity_is_not_better(dense_model, sparsity_session):
    """From level to level, perplexity does not fall significantly."""
    assert sanity.better_when_sparser(sparsity_session, dense_model.name) == []


def test_achieved_sparsity(sparsity_configuration, sparsity_session):
    """On held-out text of the calibration's source, the target is met within two points."""
    if sparsity_configuration.method == "dense" or sparsity_configuration.spon != "off":
        pytest.skip("its sparsity is that of the same level without spontaneous neurons")
    settings = sparsity_session.settings
    known = [c for c in settings.corpora if c in settings.calibration.split("+")]
    if not known:
        pytest.skip(f"no evaluation corpus shares a source with {settings.calibration}")
    found = sanity.achieved(sparsity_session, sparsity_configuration)
    for corpus in known:
        assert found[corpus] == pytest.approx(sparsity_configuration.level, abs=POINTS), corpus
