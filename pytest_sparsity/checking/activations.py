"""Activations of a case: which channels are active, and values on both sides of the threshold."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pytest_sparsity.checking.case import Case

#: Patterns whose activations or results are not numbers, or leave the normal range.
SPECIAL = ("denormal", "infinite", "large", "nan", "overflow")
#: Length of the runs of active and inactive channels of the pattern "blocks".
_BLOCK = 32
#: The threshold among small integers.
_INTEGER_THRESHOLD = 2.0
#: Powers of two by which "large" exceeds the ordinary: beyond 65504 where the dtype allows.
_LARGE = {torch.float32: 20, torch.bfloat16: 20, torch.float16: 8}
#: Of the pattern "overflow": powers of two of activations, and of weights.  A sum of 16 products is
#: beyond float32, none of its terms is; in float16 the result is beyond.
_OVERFLOW = {torch.float32: (62, 62), torch.bfloat16: (62, 62), torch.float16: (14, 5)}


def overflowing(dtype: torch.dtype, drawn: Tensor, what: Literal["x", "weight"]) -> Tensor:
    """Values of the pattern "overflow", positive: in any order sums of their products only grow.

    Args:
        dtype: that they are to have.
        drawn: uniform in [0, 1).
        what: which factor of the products they are.
    """
    return (drawn + 1) * 2.0 ** _OVERFLOW[dtype][what == "weight"]


def mask(case: Case, rows: int, width: int, generator: torch.Generator) -> Tensor:
    """Which channels are active, bool [rows, width], each row by itself."""
    drawn = torch.rand(rows, width, generator=generator) >= case.level
    channel, row = torch.arange(width), torch.arange(rows)[:, None]
    if case.pattern == "all":
        return torch.ones_like(drawn)
    if case.pattern == "none":
        return torch.zeros_like(drawn)
    if case.pattern == "one":
        return channel == torch.randint(width, (rows, 1), generator=generator)
    if case.pattern == "alternating":
        return (channel + row) % 2 == 0
    if case.pattern == "blocks":
        return drawn[:, channel // _BLOCK]
    if case.pattern == "rows_differ":
        return drawn & (row % 2 == 0)
    # TEAL reads out of bounds only when the last channel is active.
    if case.pattern == "first":
        return drawn | (channel == 0)
    if case.pattern == "last":
        return drawn | (channel == width - 1)
    return drawn


def threshold(case: Case, generator: torch.Generator) -> float:
    """A threshold that the case's dtype represents."""
    dtype: torch.dtype = getattr(torch, case.dtype)
    if case.pattern == "zeros":
        return 0.0
    if case.values == "integer" and case.pattern != "overflow":
        return _INTEGER_THRESHOLD
    if case.pattern == "denormal":
        return 8 * torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    if case.pattern == "overflow":
        return 2.0 ** _OVERFLOW[dtype][0]
    scale = 2.0 ** _LARGE[dtype] if case.pattern == "large" else 1.0
    return scale * float((0.25 + 0.75 * torch.rand(1, generator=generator)).to(dtype))


def activations(
    case: Case, active: Tensor, threshold: float, others: tuple[float, ...], g: torch.Generator
) -> Tensor:
    """Draw x of ``active``'s shape: |x| > ``threshold`` exactly where active, in its dtype.

    On both sides some are as near as the dtype allows: exactly ±t, and the next number above.

    Args:
        case: says which pattern and values.
        active: bool [rows, K].
        threshold: a number of the case's dtype.
        others: further thresholds at which to put some activations (of k and v).
        g: of all that is random.
    """
    dtype: torch.dtype = getattr(torch, case.dtype)
    t = torch.tensor(threshold, dtype=dtype)
    # Integers stay integers: their sums are to be exact.
    step = t + 1 if case.values == "integer" else torch.nextafter(t, torch.tensor(torch.inf).to(t))
    below, above = _magnitudes(case, tuple(active.shape), t, g)
    kind = torch.rand(active.shape, generator=g)
    share = 0.9 if case.pattern == "ties" else 0.15
    below = torch.where(kind < share, t, below.to(dtype).clamp(max=t))
    above = torch.where(kind < share / 2, step, above.to(dtype).clamp(min=step))
    below = torch.where(kind > 0.92, torch.zeros_like(t), below)
    for place, other in enumerate(others):
        here = (kind > 0.5 + 0.1 * place) & (kind < 0.6 + 0.1 * place)
        near = torch.tensor(other, dtype=dtype)
        below = torch.where(here & (near <= t), near, below)
        above = torch.where(here & (near > t), near, above)
    size = torch.where(active, above, below)
    negative = torch.rand(active.shape, generator=g) < 0.5
    if case.pattern == "overflow":
        # What is above any threshold, and so in a sum of q, k or v.
        negative &= size <= torch.tensor(min((threshold, *others)), dtype=dtype)
    sign = torch.where(negative, -1.0, 1.0).to(dtype)
    return with_special(case, size * sign, active, g)


def plain(case: Case, rows: int, width: int, g: torch.Generator) -> Tensor:
    """Draw x [rows, width] of an op that has no threshold on it, with some ±0."""
    dtype: torch.dtype = getattr(torch, case.dtype)
    if case.values == "integer":
        return torch.randint(-3, 4, (rows, width), generator=g).to(dtype)
    x = torch.randn(rows, width, generator=g)
    x = torch.where(torch.rand(rows, width, generator=g) < 0.1, x * 0.0, x)
    # Two factors of it meet in a gated MLP, three with relu2.
    return (x * 4.0 if case.pattern == "large" else x).to(dtype)


def with_special(case: Case, x: Tensor, active: Tensor, g: torch.Generator) -> Tensor:
    """``x`` with the one infinite or NaN activation that the pattern asks for."""
    if case.pattern not in ("infinite", "nan"):
        return x
    row = case.seed % x.shape[0]
    among = active[row].nonzero().flatten()
    among = among if among.numel() else torch.arange(x.shape[1])
    channel = among[torch.randint(among.numel(), (1,), generator=g)]
    x[row, channel] = torch.inf if case.pattern == "infinite" else torch.nan
    return x


def _magnitudes(
    case: Case, shape: tuple[int, ...], t: Tensor, g: torch.Generator
) -> tuple[Tensor, Tensor]:
    """What inactive and active activations are before some are moved to the threshold: float32."""
    if case.pattern == "overflow":
        shares = torch.rand(shape, generator=g), torch.rand(shape, generator=g)
        return t.float() * shares[0], overflowing(t.dtype, shares[1], "x")
    if case.values == "integer":
        limit = int(t)
        return (
            torch.randint(0, limit + 1, shape, generator=g).float(),
            torch.randint(limit + 1, limit + 6, shape, generator=g).float(),
        )
    share, spread = torch.rand(shape, generator=g), torch.rand(shape, generator=g)
    unit = t.float() if case.pattern == "large" else torch.tensor(1.0)
    above = t.float() + unit * 2 * spread
    if case.pattern == "denormal":
        tiny = torch.finfo(t.dtype).smallest_normal * share
        above = torch.where(spread < 0.5, tiny.to(t.dtype).float(), above)
    return t.float() * share, above
