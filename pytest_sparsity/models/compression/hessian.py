"""The Hessian of a layer's squared output error, which GPTQ and SparseGPT go by."""

from __future__ import annotations

import torch
from torch import Tensor

#: Share of the mean diagonal that is added to the diagonal (GPTQ, section 3.3, step 3).
DAMPING = 0.01


def second_moment(x: Tensor) -> Tensor:
    """Mean of x x^T over the rows of ``x`` [rows, K]: float32 [K, K].

    The Hessian of ||W X - W' X||^2 is twice the sum; a factor changes neither method, since
    the damping is relative to the diagonal.
    """
    wide = x.float()
    return wide.T @ wide / len(wide)


def dead_inputs(hessian: Tensor) -> Tensor:
    """Where an input was zero in all of the calibration text: bool [K]."""
    return hessian.diagonal() == 0


def inverse_factor(hessian: Tensor) -> Tensor:
    """The upper triangular U with U^T U = H^-1, H damped: float64 [K, K].

    Row k of U, divided by U_kk, says how the inputs after k make up for an error at k
    (GPTQ, arXiv 2210.17323, section 3.3).

    Args:
        hessian: of shape [K, K]; the diagonal of dead inputs counts as 1.
    """
    h = hessian.double().clone()
    diagonal = h.diagonal()
    diagonal[dead_inputs(hessian)] = 1
    diagonal += DAMPING * diagonal.mean()
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(h))
    factor: Tensor = torch.linalg.cholesky(inverse, upper=True)
    return factor


def output_error(change: Tensor, hessian: Tensor) -> float:
    """Mean over the calibration rows of ||(W - W') x||^2, from ``change`` W - W' [N, K]."""
    d = change.double()
    return float(((d @ hessian.double()) * d).sum())
