"""The methods by name.  A new one is a class like those in teal.py and a ``register`` call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from pytest_sparsity.methods.calibrator import Calibrator
from pytest_sparsity.methods.plan import Plan
from pytest_sparsity.methods.teal import Teal


class Method(Protocol):
    """Chooses, per level, which activations to skip.

    Attributes:
        name: as in ``--sparsity-methods``.
        parameters: everything besides the level that changes its plans; part of the key
            of every record.
    """

    name: str
    parameters: Mapping[str, object]

    def plan(self, calibrator: Calibrator, level: float) -> Plan:
        """The plan for ``level`` in [0, 1] of the calibrator's model."""


_METHODS: dict[str, Method] = {}


def register(method: Method) -> Method:
    """Make ``method`` known by its name.

    Raises:
        ValueError: the name is taken.
    """
    if method.name in _METHODS or method.name == "dense":
        raise ValueError(f"a method named {method.name!r} is registered already")
    _METHODS[method.name] = method
    return method


def method(name: str) -> Method:
    """The method called ``name``; names are checked when options are read."""
    return _METHODS[name]


def method_names() -> tuple[str, ...]:
    """The names of all methods, ``dense`` first."""
    return ("dense", *_METHODS)


register(Teal())
