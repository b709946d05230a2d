"""What a method decides, in a form that can be attached to a model, stored and compared."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch

from pytest_sparsity.kernels.torch.sparse_linear import sparsify_activations
from pytest_sparsity.methods.prefill import FIRST_TOKEN_DENSE, PrefillPolicy


class Selector(Protocol):
    """Chooses which activations of one site are kept.

    Selectors are compared with ``==``: sites that share their input and have equal
    selectors are sparsified once.
    """

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return S(x), a new contiguous tensor: ``x`` [..., K], dropped activations zero."""


@dataclass(frozen=True)
class Threshold:
    """Keep ``x_i`` where ``|x_i| > value``, strictly (TEAL, arXiv 2408.14690, section 4).

    Raises:
        ValueError: ``value`` is negative or not finite.
    """

    value: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and self.value >= 0):
            raise ValueError(f"a threshold must be finite and >= 0, not {self.value!r}")

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return S(x), [..., K]."""
        return sparsify_activations(x, self.value).contiguous()  # hardshrink keeps strides


@dataclass(frozen=True)
class Plan:
    """How one model is sparsified.

    Attributes:
        method: name of the method that made it.
        level: target fraction of zeroed activations, in [0, 1].
        selectors: site name to the selector of its input; other sites stay dense.
        prefill: which leading positions stay dense.
        bias: site name to a constant output, shape [N], added by that site's layer (the
            folded W a of spontaneous neurons, arXiv 2512.12744); empty for none.
    """

    method: str
    level: float
    selectors: Mapping[str, Selector]
    prefill: PrefillPolicy = FIRST_TOKEN_DENSE
    bias: Mapping[str, torch.Tensor] = field(default_factory=dict)
