"""Rotary angles that old files hold, against those that the model computes.

transformers leaves them out in silence.  Other ones are the sign of a configuration that lost its
base or its scaling.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pytest_sparsity.models.tensors import some

if TYPE_CHECKING:
    import torch

#: What rounding to half of the digits moves an angle by, and more.
_RELATIVE, _ABSOLUTE = 0.02, 1e-5


def _bases(said: Mapping[str, Any]) -> Iterator[float]:
    """Every ``rope_theta`` of a configuration."""
    for key, value in said.items():
        if isinstance(value, Mapping):
            yield from _bases(value)
        elif key == "rope_theta" and isinstance(value, (int, float)):
            yield float(value)


def other_angles(model: Any, tensors: Mapping[str, torch.Tensor]) -> str | None:
    """Which tensors ``inv_freq`` in the files are none of the model's; None if all are.

    Those before a scaling are the model's as well: early classes scaled positions.

    Args:
        model: of transformers.
        tensors: of its files, by name.

    Returns:
        A sentence without an end, as :func:`~.tensors.refuse_or_warn` takes it.
    """
    import torch

    own = [buffer for name, buffer in model.named_buffers() if name.endswith("inv_freq")]

    bases = set(_bases(model.config.to_dict()))

    def unscaled(count: int) -> Iterator[torch.Tensor]:
        for base in bases:
            yield base ** -(torch.arange(count) / count)

    def known(stored: torch.Tensor) -> bool:
        return any(
            stored.shape == each.shape
            and torch.allclose(
                stored.float(), each.float().to(stored.device), rtol=_RELATIVE, atol=_ABSOLUTE
            )
            for each in (*own, *unscaled(stored.numel()))
        )

    stored = {name: tensor for name, tensor in tensors.items() if name.endswith("inv_freq")}
    others = [name for name, tensor in stored.items() if own and not known(tensor)]
    if not others:
        return None
    return (
        f"its files hold {some(others)}, other rotary angles than its config.json gives; mend "
        "rope_theta or the scaling there"
    )
