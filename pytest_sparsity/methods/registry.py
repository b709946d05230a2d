"""The methods by name.  A new one is a class like that in teal.py and an entry of ``BUNDLED``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.calibrator import DEFAULT_WANTS, Calibrator
from pytest_sparsity.methods.cats import Cats
from pytest_sparsity.methods.given.given import Given
from pytest_sparsity.methods.neurons.cold_skip import RECALLS, ColdSkip, ColdSkipOracle
from pytest_sparsity.methods.neurons.fixed import ColdOnly, HotOnly, RandomNeurons
from pytest_sparsity.methods.neurons.predicted import DejaVu, PowerInfer
from pytest_sparsity.methods.neurons.references import Contribution, ExactZeros
from pytest_sparsity.methods.nm import GroupPattern
from pytest_sparsity.methods.plan import Plan
from pytest_sparsity.methods.teal import Teal
from pytest_sparsity.methods.teal_greedy import TealGreedy
from pytest_sparsity.methods.topk import TopK
from pytest_sparsity.methods.wina import Wina
from pytest_sparsity.models import LanguageModel


class Method(Protocol):
    """Chooses, per level, which activations to skip.

    A method may have ``check_model(model, given)``, see :func:`check_method`; ``wants``, see
    :func:`wants_of`; ``takes``, the
    :attr:`~.given.given.Given.kinds` of files that take the place of what it would count or train;
    ``needs``, those without which there is no plan; ``note``, what must stand below tables with its
    rows; ``deprecated``, what to use instead; and ``variant(text)``, which makes the method
    ``NAME:TEXT``.

    Attributes:
        name: as in ``--sparsity-methods``.
        parameters: everything besides the level that changes its plans; part of the key
            of every record.
    """

    name: str
    parameters: Mapping[str, object]

    def plan(self, calibrator: Calibrator, level: float) -> Plan:
        """The plan for ``level`` in [0, 1] of the calibrator's model."""


BUNDLED: tuple[Method, ...] = (
    Teal(),
    TealGreedy(),
    Cats(),
    Wina(),
    TopK(),
    GroupPattern(2, 4),
    GroupPattern(8, 16),
    PowerInfer(),
    DejaVu(),
    ExactZeros(),
    Contribution(),
    ColdSkip(),
    ColdSkipOracle(),
    *map(ColdSkipOracle, RECALLS),
    HotOnly(),
    ColdOnly(),
    RandomNeurons(),
)


def wants_of(method: Method) -> tuple[str, ...]:
    """The statistics that a method asks its calibrator for, by its attribute ``wants``.

    They are collected in one pass for all methods of a run; a method without the attribute
    is taken to ask for quantiles of |x|.
    """
    found: tuple[str, ...] = getattr(method, "wants", DEFAULT_WANTS)
    return found


def takes_of(method: Method) -> tuple[str, ...]:
    """The :attr:`~.given.given.Given.kinds` of files that a method takes, by its ``takes``."""
    found: tuple[str, ...] = getattr(method, "takes", ())
    return found


def check_method(method: Method, model: LanguageModel, given: Given | None = None) -> None:
    """See that a method has a meaning for a model, by its ``check_model``, before anything is made.

    Args:
        method: its ``plan`` would say the same, but only after calibration.
        model: dense.
        given: files of others that methods take; None without such files.

    Raises:
        SparsityError: it has none; the sentence says what to leave out.
    """
    check: Callable[[LanguageModel, Given | None], None] | None = getattr(
        method, "check_model", None
    )
    if check is not None:
        check(model, given)


def find(methods: Mapping[str, Method], name: str) -> Method:
    """The method with this name, or the variant ``NAME:TEXT`` of one.

    Raises:
        SparsityError: there is none.
    """
    if name in methods:
        return methods[name]
    base, _, text = name.partition(":")
    make: Callable[[str], Method] | None = getattr(methods.get(base), "variant", None)
    if text and make is not None:
        return make(text)
    raise SparsityError(f"method {name!r} is unknown; known are {', '.join(['dense', *methods])}")


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
