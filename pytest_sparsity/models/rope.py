"""Rotary positions whose frequencies depend on how long a sequence is.

``longrope`` has one set of frequencies for sequences up to a length and another beyond it;
``dynamic`` (NTK) has new ones for every length beyond.  transformers chooses by the largest
position of a forward pass and keeps the choice in the module, so what such a model computes for a
sequence depends on what shares its pass, and for ``dynamic`` on the passes before.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True, eq=False)
class ScaledRope:
    """One kind of rotary positions in a model.

    Attributes:
        module: of transformers, which keeps the frequencies.
        kind: its name for them: ``"dynamic"`` or ``"longrope"``.
        layer_type: whose layers use them; None for all.
        reach: tokens of the longest sequence that has the frequencies of short ones.
        factor: how much longer than ``reach`` sequences may be.
    """

    module: nn.Module
    kind: str
    layer_type: str | None
    reach: int
    factor: float

    def regime(self, length: int) -> int:
        """A number that is the same for all lengths with the same frequencies."""
        if length <= self.reach:
            return 0
        return length if "dynamic" in self.kind else 1

    def forget(self, device: torch.device) -> None:
        """Have the frequencies be those of short sequences again.

        The module does so itself when it is asked for the angles of position 0, which costs less
        than a token does.
        """
        import torch

        if "dynamic" not in self.kind:  # longrope chooses anew in every pass
            return
        also: dict[str, Any] = {} if self.layer_type is None else {"layer_type": self.layer_type}
        first = torch.zeros(1, 1, dtype=torch.int64, device=device)
        self.module(torch.zeros(1, 1, 1, device=device), first, **also)


def scaled_ropes(model: nn.Module) -> tuple[ScaledRope, ...]:
    """The rotary positions of ``model`` that depend on a sequence's length; mostly none."""
    return tuple(rope for module in model.modules() for rope in _scaled(module))


def reach(ropes: tuple[ScaledRope, ...]) -> int | None:
    """Tokens up to which what a token gives does not depend on how many follow; None: no limit."""
    return min((rope.reach for rope in ropes), default=None)


def regime(ropes: tuple[ScaledRope, ...], length: int) -> Hashable:
    """What is equal of two lengths if sequences of them have the same positions."""
    return tuple(rope.regime(length) for rope in ropes)


def _scaled(module: nn.Module) -> Iterator[ScaledRope]:
    kinds: Any = getattr(module, "rope_type", None)
    by_layer = kinds if isinstance(kinds, dict) else {None: kinds}
    for layer_type, kind in by_layer.items():
        if not isinstance(kind, str) or not ("dynamic" in kind or kind == "longrope"):
            continue
        config: Any = getattr(module, "config", None)
        parameters = _parameters(config, layer_type)
        if kind == "longrope":
            length = parameters.get("original_max_position_embeddings") or getattr(
                config, "original_max_position_embeddings", config.max_position_embeddings
            )
        else:
            length = getattr(module, "original_max_seq_len", config.max_position_embeddings)
        factor = parameters.get("factor") or 1.0
        yield ScaledRope(module, kind, layer_type, int(length), float(factor))


def _parameters(config: Any, layer_type: str | None) -> dict[str, Any]:
    """What the configuration says of them: transformers 5 has another name, and one per type."""
    found = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    own = found.get(layer_type) if layer_type is not None else found
    return own if isinstance(own, dict) else {}
