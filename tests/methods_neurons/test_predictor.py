from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.calibrator import Calibrator
from pytest_sparsity.methods.neurons import cold_skip, training
from pytest_sparsity.methods.neurons.cold_skip import ColdSkip
from pytest_sparsity.methods.neurons.predictor import Predictor
from pytest_sparsity.methods.neurons.training import (
    PredictorRecipe,
    Sample,
    _train_layer,
    hidden_width,
    train_predictor,
)
from pytest_sparsity.methods.prefill import FIRST_TOKEN_DENSE, PrefillPolicy
from pytest_sparsity.models import LanguageModel

QUICK = PredictorRecipe(epochs=2, batch=64)


def _same(one: Predictor, other: Predictor) -> bool:
    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    return all(torch.equal(one.layers[n].scores(x), other.layers[n].scores(x)) for n in one.layers)


def test_training_repeats_itself(
    model: LanguageModel, documents: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train_predictor(model, documents, FIRST_TOKEN_DENSE, QUICK)
    # One layer at a time, each with a pass of its own.
    monkeypatch.setattr(training, "_BYTES", 1)
    second = train_predictor(model, documents, FIRST_TOKEN_DENSE, QUICK)
    assert _same(first, second)
    assert (first.provenance["tokens"], second.provenance["tokens"]) == (8 * 48, 3 * 8 * 48)
    assert first.provenance["training_tokens"] == 7 * 47
    assert list(first.layers) == [0, 1, 2]
    other = train_predictor(model, documents, FIRST_TOKEN_DENSE, replace(QUICK, seed=1))
    assert not _same(first, other)


def _sample(scale: float, seed: int) -> Sample:
    """Noise, and one neuron in ten active whatever the input is."""
    lot = torch.Generator().manual_seed(seed)
    x = torch.randn(400, 16, generator=lot)
    return Sample(scale * x, torch.rand(400, 30, generator=lot) < 0.1)


def test_the_scale_of_the_inputs_does_not_matter() -> None:
    layers = [
        _train_layer(0, _sample(scale, 0), _sample(scale, 1), 8, QUICK) for scale in (1.0, 1024.0)
    ]
    assert layers[0][1] == pytest.approx(layers[1][1])
    scores = [
        layer.scores(_sample(s, 2).x) for (layer, _), s in zip(layers, (1, 1024), strict=True)
    ]
    torch.testing.assert_close(*scores)


def test_active_neurons_weigh_as_much_as_the_others() -> None:
    # Where inputs tell nothing, one is as likely as the other if they weigh the same.
    layer, _ = _train_layer(0, _sample(1.0, 0), _sample(1.0, 1), 1, replace(QUICK, epochs=20))
    assert float(layer.scores(_sample(1.0, 2).x).sigmoid().mean()) == pytest.approx(0.5, abs=0.05)


def test_the_size_is_a_share_of_the_block(model: LanguageModel, opt_model: LanguageModel) -> None:
    down = next(site for site in model.sites if site.kind == "down")
    assert hidden_width(model, down, 0.1) == round(0.1 * 3 * 64 * 160 / (64 + 160))
    without_gate = next(site for site in opt_model.sites if site.kind == "down")
    assert hidden_width(opt_model, without_gate, 0.1) == round(0.1 * 2 * 32 * 72 / (32 + 72))
    assert hidden_width(model, down, 1e-9) == 1


def test_they_are_trained_once_and_kept(
    model: LanguageModel,
    documents: list[torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = ColdSkip(QUICK).predictor(Calibrator(model, documents, FIRST_TOKEN_DENSE, tmp_path))
    monkeypatch.setattr(training, "_train_layer", None)  # whoever trains again fails
    method = ColdSkip(QUICK)
    calibrator = Calibrator(model, documents, FIRST_TOKEN_DENSE, tmp_path)
    read = method.predictor(calibrator)
    assert _same(made, read)
    assert method.predictor(calibrator) is read
    assert read.provenance["weights"] == model.weights_hash
    assert read.weights == 3 * 14 * (64 + 160)


def test_another_text_has_other_predictors(
    model: LanguageModel, documents: list[torch.Tensor], tmp_path: Path
) -> None:
    method = ColdSkip(QUICK)
    one = Calibrator(model, documents, FIRST_TOKEN_DENSE, tmp_path)
    other = Calibrator(model, documents[:5], FIRST_TOKEN_DENSE, tmp_path)
    assert not _same(method.predictor(one), method.predictor(other))


def test_other_training_code_has_other_predictors(
    model: LanguageModel,
    documents: list[torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Records are of the code of their day, and so must be what they were measured with."""
    code = tmp_path / "training.py"
    for text in ("first", "second", "first"):
        code.write_text(text)
        monkeypatch.setattr(cold_skip, "_PREDICTING", (code,))
        calibrator = Calibrator(model, documents, FIRST_TOKEN_DENSE, tmp_path)
        ColdSkip(QUICK).predictor(calibrator)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2


def test_a_damaged_file_is_named(
    model: LanguageModel, documents: list[torch.Tensor], tmp_path: Path
) -> None:
    calibrator = Calibrator(model, documents, FIRST_TOKEN_DENSE, tmp_path)
    ColdSkip(QUICK).predictor(calibrator)
    (path,) = tmp_path.rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(SparsityError, match="cannot be read as predictors of neurons"):
        ColdSkip(QUICK).predictor(calibrator)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"0.first": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(SparsityError, match="None found"):
        Predictor.load(tmp_path / "x.safetensors")


def test_too_little_text(
    calibrator: Callable[..., Calibrator], model: LanguageModel, documents: list[torch.Tensor]
) -> None:
    with pytest.raises(SparsityError, match="--sparsity-calibration: 1 document is too little"):
        train_predictor(model, documents[:1], FIRST_TOKEN_DENSE, QUICK)


def test_a_policy_that_keeps_everything_dense(
    model: LanguageModel, documents: list[torch.Tensor]
) -> None:
    with pytest.raises(SparsityError, match="first:48 keeps every token"):
        train_predictor(model, documents, PrefillPolicy("first:48"), QUICK)


def test_a_model_that_fuses_gate_and_up(
    model: LanguageModel, documents: list[torch.Tensor]
) -> None:
    fused = replace(model, sites=tuple(s for s in model.sites if s.kind not in ("gate", "up")))
    with pytest.raises(SparsityError, match="leave cold_skip out"):
        train_predictor(fused, documents, FIRST_TOKEN_DENSE, QUICK)
