from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.calibrator import Calibrator
from pytest_sparsity.methods.neurons.activity import calibrated_counts, count_neurons
from pytest_sparsity.methods.neurons.fixed import HotOnly
from pytest_sparsity.methods.neurons.quality import selection_quality
from pytest_sparsity.methods.neurons.report import (
    CURVE,
    NeuronReport,
    Skew,
    Stability,
    neuron_report,
    read_reports,
    write_reports,
)
from pytest_sparsity.methods.prefill import FIRST_TOKEN_DENSE
from pytest_sparsity.models import LanguageModel


@pytest.fixture
def report(
    calibrator: Callable[..., Calibrator], model: LanguageModel, documents: list[torch.Tensor]
) -> NeuronReport:
    made = calibrator()
    first = calibrated_counts(made)
    held_out = count_neurons(model, documents[4:], FIRST_TOKEN_DENSE)
    return neuron_report(
        model,
        "noise (evaluation)",
        "0123",
        FIRST_TOKEN_DENSE,
        held_out,
        Stability.between(first, held_out, "noise (calibration)"),
        selection_quality(model, [HotOnly().plan(made, 0.5)], documents[4:]),
        {"size": 12},
    )


def test_what_is_in_it(report: NeuronReport) -> None:
    assert report.tokens == 4 * 47
    assert len(report.layers) == len(report.truncation_error) == 3
    assert report.model_wide.neurons == sum(layer.neurons for layer in report.layers) == 480
    shares = [layer.active_share for layer in report.layers]
    assert report.model_wide.active_share == pytest.approx(sum(shares) / 3)
    assert 0 < report.model_wide.hot_share < 1
    assert report.model_wide.curve[0] == 0
    assert report.model_wide.curve[-1] == 1
    assert sorted(report.model_wide.curve) == list(report.model_wide.curve)
    assert report.stability is not None
    assert 0.5 < report.stability.overlap_model <= 1
    assert report.quality[0].method == "hot_only"


def test_the_curve_of_even_activations_is_straight() -> None:
    skew = Skew.of(torch.full((50,), 7), tokens=14)
    assert skew.curve == pytest.approx(CURVE)
    assert (skew.hot, skew.active_share) == (40, 0.5)


def test_a_line_holds_all_of_it(report: NeuronReport) -> None:
    line = report.to_json()
    assert "\n" not in line
    assert NeuronReport.from_json(line) == report


def test_one_line_per_model_and_corpus(report: NeuronReport, tmp_path: Path) -> None:
    path = tmp_path / "report" / "neurons.jsonl"
    assert read_reports(path) == []
    write_reports(path, [report])
    write_reports(path, [report])
    assert read_reports(path) == [report]
    write_reports(path, [replace(report, model="other"), replace(report, tokens=1)])
    assert [(r.model, r.tokens) for r in read_reports(path)] == [
        ("tiny-random", 1),
        ("other", report.tokens),
    ]


@pytest.mark.parametrize("change", [{"schema": 0}, {"tokens": None, "drop": "layers"}])
def test_a_damaged_file_is_named(
    report: NeuronReport, tmp_path: Path, change: dict[str, str]
) -> None:
    content = {**json.loads(report.to_json()), **change}
    content.pop(content.pop("drop", ""), None)
    path = tmp_path / "neurons.jsonl"
    path.write_text(json.dumps(content))
    with pytest.raises(SparsityError, match=r"neurons\.jsonl cannot be read"):
        read_reports(path)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "neurons.jsonl"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SparsityError, match=r"neurons\.jsonl cannot be read"):
        read_reports(path)
