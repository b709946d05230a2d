from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pytest_sparsity.methods.given.activations import write_activations
from pytest_sparsity.methods.given.given import read_given

Told = Callable[..., Any]


@pytest.mark.parametrize("below", ["", "activation"])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.float32, torch.float16])
def test_counts_and_shares(below: str, dtype: torch.dtype, tmp_path: Path) -> None:
    folder = tmp_path / below
    folder.mkdir(exist_ok=True)
    for layer in range(11):
        torch.save(torch.arange(5).to(dtype) + layer, folder / f"activation_{layer}.pt")
    found = read_given(tmp_path)
    assert found.kinds == {"frequencies"}
    assert found.frequencies is not None
    assert list(found.frequencies) == list(range(11))
    for layer, counts in found.frequencies.items():
        assert counts.dtype == torch.float64
        assert counts.tolist() == [layer + n for n in range(5)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (torch.zeros(2, 3), "of shape [2, 3], and 1 axis"),
        (torch.zeros(0), "of shape [0]"),
        (torch.tensor([1.0, float("nan")]), "1 values"),
        (torch.tensor([1, -1]), "negative numbers"),
        (torch.tensor([True, False]), "in bool, and numbers are needed"),
        (torch.zeros(2, dtype=torch.complex64), "in complex64"),
        ({"a": torch.zeros(2)}, "no plain tensor the one tensor in it (a dict)"),
    ],
)
def test_what_no_activity_is_is_told(
    content: object, said: str, tmp_path: Path, told: Told
) -> None:
    torch.save(content, tmp_path / "activation_0.pt")
    with told(tmp_path / "activation_0.pt", said):
        read_given(tmp_path)


def test_missing_and_double_layers_are_told(tmp_path: Path, told: Told) -> None:
    torch.save(torch.ones(3), tmp_path / "activation_1.pt")
    with told("the activity of layer 1, but not of layer 0"):
        read_given(tmp_path)
    (tmp_path / "activation").mkdir()
    for file in ("activation_0.pt", "activation/activation_1.pt"):
        torch.save(torch.ones(3), tmp_path / file)
    with told("layer 1 twice", tmp_path / "activation" / "activation_1.pt"):
        read_given(tmp_path)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    counts = {0: torch.tensor([7, 0, 2**40]), 1: torch.tensor([0.25, 0.5, 1.0]).bfloat16()}
    write_activations(tmp_path / "activation", counts)
    stored = [torch.load(tmp_path / f"activation/activation_{n}.pt") for n in counts]
    assert [found.dtype for found in stored] == [torch.int64, torch.float32]
    found = read_given(tmp_path).frequencies
    assert found is not None
    assert [each.tolist() for each in found.values()] == [[7, 0, 2**40], [0.25, 0.5, 1.0]]


@pytest.mark.parametrize(
    ("counts", "said"),
    [({1: torch.ones(3)}, "without gaps"), ({0: torch.ones(3, 1)}, r"\[3, 1\]")],
)
def test_what_no_activity_is_is_not_written(counts: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        write_activations(tmp_path, counts)
    assert not list(tmp_path.iterdir())
