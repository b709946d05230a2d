"""The methods by name.  A new one is a class like that in teal.py and an entry of ``BUNDLED``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from pytest_sparsity.errors import SparsityError
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


BUNDLED: tuple[Method, ...] = (Teal(),)


def by_name(added: Iterable[Method] = ()) -> dict[str, Method]:
    """The bundled methods and ``added`` ones, which only this caller sees.

    Raises:
        SparsityError: two have the same name, or one is called dense.
    """
    found: dict[str, Method] = {}
    for method in (*BUNDLED, *added):
        if method.name in found or method.name == "dense":
            raise SparsityError(
                f"pytest_sparsity_methods: a method named {method.name!r} is there already; give "
                f"{type(method).__name__} another name"
            )
        found[method.name] = method
    return found
