"""Operands whose rows are far apart: only rows are kept track of."""

from __future__ import annotations

import torch

from pytest_sparsity.checking import far
from pytest_sparsity.checking.emulation.launching import _parts


def test_rows_that_are_far_apart_are_parts_of_their_own() -> None:
    weight = torch.arange(15.0).view(5, 3)
    parts = list(_parts(far._moved(weight, 0)))
    assert [part.tolist() for part in parts] == weight.tolist()


def test_a_tensor_with_a_pitch_is_one_part() -> None:
    weight = torch.empty(5, 8)[:, :3]
    assert [part.shape for part in _parts(weight)] == [weight.shape]
