"""Files of other projects, written by the descriptions of their formats and not by our writers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.models import LanguageModel, load_model

#: Of tiny-random.
LAYERS, HIDDEN, NEURONS = 3, 64, 160


@pytest.fixture(scope="session")
def model() -> LanguageModel:
    return load_model("tiny-random", dtype="float32")


@pytest.fixture
def told() -> Callable[..., Any]:
    """Inside, a user's mistake must be told in one sentence, with the option and these parts."""

    @contextlib.contextmanager
    def inside(*parts: object) -> Iterator[None]:
        with pytest.raises(SparsityError) as caught:
            yield
        sentence = str(caught.value)
        assert sentence.startswith("--sparsity-predictors: ")
        assert "\n" not in sentence
        assert "; " in sentence  # and its fix
        assert "'weights_only'" not in sentence  # torch proposes to run the file's code
        for part in parts:
            assert str(part) in sentence, sentence

    return inside


@pytest.fixture
def powerinfer_folder(tmp_path: Path) -> Callable[..., Path]:
    """A predictor folder of PowerInfer; the matrices of a layer are full of its number."""

    def write(layers: int = LAYERS, inner: int = NEURONS, hidden: int = HIDDEN) -> Path:
        folder = tmp_path / "predictors"
        folder.mkdir(exist_ok=True)
        for layer in range(layers):
            content = {
                "fc1.weight": torch.full((4, hidden), float(layer), dtype=torch.float16),
                "fc2.weight": torch.full((inner, 4), -float(layer), dtype=torch.float16),
            }
            torch.save(content, folder / f"model_{layer}.pt")
        return folder

    return write


@pytest.fixture
def teal_folder(tmp_path: Path) -> Callable[..., Path]:
    """A folder as TEAL's calibration writes it, with one histogram for all inputs."""

    def write(counts: torch.Tensor, centers: torch.Tensor, layers: int = LAYERS) -> Path:
        folder = tmp_path / "teal"
        for layer in range(layers):
            for block in ("self_attn", "mlp"):
                content = {"h1": counts, "h1_centers": centers}
                # Those of h2 are wider, and told apart by that.
                content |= {"h2": counts, "h2_centers": 2 * centers}
                content |= {"h1.5": counts, "h1.5_centers": centers} if block == "mlp" else {}
                place = folder / "histograms" / f"layer-{layer}" / block
                place.mkdir(parents=True)
                torch.save(content, place / "histograms.pt")
        return folder

    return write
