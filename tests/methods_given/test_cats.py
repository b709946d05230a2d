from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_sparsity.methods.given.given import read_given

Told = Callable[..., Any]

#: What ``save_pretrained`` writes for a model of CATS.
SAVED = {
    "model_type": "sparse_mistral",
    "use_sparse_model": True,
    "use_sparse_predictor": False,
    "use_sparse_regularization": False,
    "use_relu": False,
    "cut_pre_mlp": False,
    "cut_pre_attn": False,
}


@pytest.mark.parametrize("name", ["config.json", "thresholds.json"])
def test_thresholds(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(json.dumps(SAVED | {"thresholds": [0.25, 0, 1e-3]}))
    found = read_given(tmp_path / name)
    assert found.cats == (0.25, 0.0, 0.001)
    assert found.kinds == {"cats"}
    if name == "config.json":
        assert read_given(tmp_path).cats == found.cats
        assert read_given(tmp_path).hash == found.hash


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"thresholds": 0.5}, "thresholds 0.5, and a list"),
        ({"thresholds": []}, "thresholds [], and a list"),
        ({"thresholds": [0.1, -0.2]}, "threshold -0.2 for layer 1"),
        ({"thresholds": [float("nan")]}, "threshold nan for layer 0"),
        ({"thresholds": [float("inf")]}, "threshold inf for layer 0"),
        ({"thresholds": [0.1, True]}, "threshold True for layer 1"),
        ({"thresholds": [0.1, "0.2"]}, "threshold '0.2' for layer 1"),
        ({"use_relu": True}, "use_relu True"),
        ({"use_resilu": True}, "use_resilu True"),
        ({"use_sparse_predictor": True}, "use_sparse_predictor True"),
        ({"use_sparse_model": False}, "use_sparse_model False"),
        ({"cut_pre_mlp": True}, "cut_pre_mlp True"),
        ({"cut_pre_attn": True}, "cut_pre_attn True"),
    ],
)
def test_what_are_no_thresholds_is_told(
    change: dict[str, Any], said: str, tmp_path: Path, told: Told
) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(SAVED | {"thresholds": [0.1, 0.2]} | change))
    with told(file, said):
        read_given(tmp_path)


@pytest.mark.parametrize("content", [{}, {"thresholds": None}, {"sparse_threshold": 0.5}])
def test_a_config_without_thresholds_is_nothing(
    content: dict[str, Any], tmp_path: Path, told: Told
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(content))
    with told(tmp_path, "holds nothing that is known"):
        read_given(tmp_path)
