"""Methods that work at some levels only; light, because test collection reads it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

#: Name of a method to the levels at which it is defined; others take any.
ONLY_LEVELS: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {"nm_2_4": (0.5,), "nm_8_16": (0.5,)}
)

#: Behind a colon: the method cuts where its own file says, or at its natural threshold.
NATURAL = "natural"

#: Methods whose share is the model's own.
_LEVELLESS = frozenset({"exact_zeros"})
#: What may stand behind the colon of a method that takes levels.
_SCOPES = frozenset({"", "model", "capacity", "experts"})


def has_level(method: str) -> bool:
    """Whether a method takes a level; others have one threshold or set of their own.

    Those are measured once, whatever the levels, and stand at level 0.
    """
    return method not in _LEVELLESS and method.partition(":")[2] in _SCOPES


def offers(method: str, level: float) -> bool:
    """Whether ``method`` is defined at ``level``."""
    return level in ONLY_LEVELS.get(method, (level,))
