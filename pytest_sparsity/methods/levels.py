"""Methods that work at some levels only; light, because test collection reads it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

#: Name of a method to the levels at which it is defined; others take any.
ONLY_LEVELS: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {"nm_2_4": (0.5,), "nm_8_16": (0.5,)}
)


def offers(method: str, level: float) -> bool:
    """Whether ``method`` is defined at ``level``."""
    return level in ONLY_LEVELS.get(method, (level,))
