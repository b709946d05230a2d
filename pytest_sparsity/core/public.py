"""How a public module finds its names: when they are first asked for, where they are defined.

Every pytest session of every user imports the root, and a conftest file that names a type of a
fixture must not wait for torch before its first test runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from pytest_sparsity.core.moved import moved_name


def names(
    module: str,
    home: Mapping[str, str],
    made: Mapping[str, Callable[[], Any]] = MappingProxyType({}),
) -> tuple[list[str], Callable[[str], Any]]:
    """The ``__all__`` and the ``__getattr__`` of a public module.

    Args:
        module: its name.
        home: name to the module below ``pytest_sparsity`` that defines it.
        made: name to what computes it.
    """

    def find(name: str) -> Any:
        from importlib import import_module

        if name in made:
            return made[name]()
        if name in home:
            return getattr(import_module(f"pytest_sparsity.{home[name]}"), name)
        if (new := moved_name(module, name)) is not None:
            owner, _, own = new.rpartition(".")
            return getattr(import_module(owner), own)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return sorted(home), find
