from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_sparsity.plugin.options import read_settings
from pytest_sparsity.settings import settings as options
from pytest_sparsity.settings.settings import Sizes
from pytest_sparsity.sweep.neurons import COMPARED, neuron_reports
from pytest_sparsity.sweep.session import SweepSession


def test_reports_of_a_session(
    pytestconfig: pytest.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(
        read_settings(pytestconfig),
        models=("tiny-random",),
        corpora=("austen", "jargon"),
        cache=tmp_path,
        report=tmp_path / "report",
    )
    small = Sizes(documents=2, items=1, draws=1, window=64, calibration=4)
    monkeypatch.setattr(options.Settings, "sizes", small)
    session = SweepSession(settings)
    calibration, *held_out = neuron_reports(session, "tiny-random", 0.5, documents=2)
    assert calibration.corpus == "austen+jargon (calibration)"
    assert (calibration.stability, calibration.quality) == (None, ())
    assert calibration.tokens == 4 * 63
    assert [report.corpus for report in held_out] == ["austen (evaluation)", "jargon (evaluation)"]
    for report in held_out:
        assert tuple(found.method for found in report.quality) == COMPARED
        assert report.stability is not None
        assert report.stability.corpus == calibration.corpus
        assert report.predictor is not None
        assert report.predictor["size"] == 3 * 14 * (64 + 160)
        assert report.predictor["weights"] == report.weights
        assert report.tokens == 2 * 63
