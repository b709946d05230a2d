"""The record of an op: everything that is known of it beside its definition."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_sparsity.checking.case import EXAMPLES, SIZES, Case, Value
from pytest_sparsity.checking.draw import Draw, on_device
from pytest_sparsity.checking.relations import Relations
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels.registry import Kernel
from pytest_sparsity.reference.ops import Op
from pytest_sparsity.targets.work import Traffic

#: The cases of a check that goes through a list, of an op and those that a kernel of it takes.
Cases = Callable[["OpRecord", Kernel], Iterable[Case]]
Space = Mapping[str, Sequence[Any]]
#: What every op may have; all else in a space is its own.
FIELDS = {field.name for field in dataclasses.fields(Case)} - {"options"}


@dataclass(frozen=True, eq=False)
class OpRecord:
    """One op, as the checks, the gate and the rooflines know it.

    All that is not given is at a default under which a check either works for any op or does
    not apply.

    Attributes:
        op: the definition, its bound, and what must be read.
        draw: operands of a case.
        space: the values that fields of :class:`Case` and the op's own parameters may take, the
            simplest first; one that is there several times is drawn that much more often.
        settled: from the drawn values of the op's own parameters to those of a case.
        fitted: a case that the op can have, from one that it nearly can.
        edges: cases in which kernels have been wrong, run every time.
        counted: cases in which it is counted what a kernel loads.
        compiled: cases for which kernels are compiled.
        decoding: operands of a compiled case, weights being memory that is never touched.
        paged: sizes at which skipped weights fill pages of so many elements.
        timed: the case of the speed gate, from one with k, n, dtype and seed.
        traffic: the bytes that a call moves; None if no roofline is known.
        relations: between results.
        foreign: it is of others, and held against its own definition before a kernel is.
    """

    op: Op
    draw: Callable[[Draw], Any]
    space: Space
    settled: Callable[[dict[str, Any]], dict[str, Any]] = dict
    fitted: Callable[[Case], Case] = lambda case: case
    edges: Cases | None = None
    counted: Cases | None = None
    compiled: Cases | None = None
    decoding: Callable[[Case], Any] | None = None
    paged: Callable[[int], Space] = lambda page: {}
    timed: Callable[[Case], Case] | None = None
    traffic: Traffic | None = None
    relations: Relations = field(default_factory=Relations)
    foreign: bool = False

    @property
    def patterns(self) -> tuple[str, ...]:
        """The patterns that mean something for the op, the simplest first."""
        return tuple(dict.fromkeys(self.space.get("pattern", ("random",))))

    @property
    def layouts(self) -> tuple[str, ...]:
        """The layouts that its operands can have, the simplest first."""
        return tuple(dict.fromkeys(self.space.get("layout", ("best",))))

    @property
    def options(self) -> tuple[str, ...]:
        """Names of its own parameters, as they are drawn."""
        return tuple(name for name in self.space if name not in FIELDS)

    @property
    def has_bias(self) -> bool:
        """Whether its operands may have a bias."""
        return True in self.space.get("bias", ())

    @property
    def values(self) -> Mapping[str, Sequence[Any]]:
        """Values of fields, and of its own parameters as they are in a case."""
        return dict(self.space) | {n: (v,) for n, v in self._settled_examples().items()}

    @property
    def simplest(self) -> Case:
        """The case with the first of all values."""
        return self.case_of({name: among[0] for name, among in self.space.items()})

    def edge_cases(self, kernel: Kernel) -> list[Case]:
        """Those of ``edges``, or every value of every parameter, the others at their simplest."""
        return list((self.edges or one_at_a_time)(self, kernel))

    def counted_cases(self, kernel: Kernel) -> list[Case]:
        """Those of ``counted``, or the edge cases."""
        return self.edge_cases(kernel) if self.counted is None else list(self.counted(self, kernel))

    def compiled_cases(self, kernel: Kernel) -> list[Case]:
        """Those of ``compiled``; a CUDA kernel's instances are compiled all at once."""
        found = [] if self.compiled is None else list(self.compiled(self, kernel))
        return found[:1] if kernel.backend == "cuda" else found

    def build(self, case: Case, device: str = "cpu") -> Any:
        """The operands of ``case``, on ``device``.

        Raises:
            ValueError, TypeError: the op cannot have such operands.
        """
        return on_device(self.draw(Draw(case)), device)

    def case_of(self, drawn: Mapping[str, Any]) -> Case:
        """The case with these values of fields and of the op's own parameters."""
        of_all = {name: value for name, value in drawn.items() if name in FIELDS}
        own = {name: value for name, value in drawn.items() if name not in FIELDS}
        return self.fitted(Case(**of_all, options=tuple(self.settled(own).items())))

    def taken(self, case: Case, kernel: Kernel) -> Case:
        """The nearest case that ``kernel`` takes by its contract."""
        for _ in range(3):  # what fits the op may need to be fitted to the contract again
            if kernel.contract.holds(values_of(case)):
                return case
            case = self.fitted(with_values(case, kernel.contract.nearest(values_of(case))))
        raise SparsityError(
            f"{kernel.id}: its contract and what fits {self.op.name} (@sparse_op(fitted=...)) "
            f"contradict each other, as in {case}"
        )

    def checked(self, case: Case) -> Case:
        """``case``, if the op can have it; values of its own parameters get the right type.

        Raises:
            SparsityError: the case has what the op has not, or lacks a size, or a value is of
                another kind.
        """
        for name in SIZES:
            if name in self.space and getattr(case, name) < 1:
                raise SparsityError(f"case: {name}={getattr(case, name)}: give at least 1")
        for name in ("dtype", "pattern"):
            self._check_known(name, getattr(case, name))
        kinds = {name: type(value) for name, value in self._settled_examples().items()}
        own: dict[str, Value] = {}
        for name, value in case.options:
            if name not in kinds:
                has = ", ".join([*(n for n in self.space if n in FIELDS), *kinds])
                raise SparsityError(f"case: {self.op.name} has no {name}=; it has {has}")
            own[name] = _as(kinds[name], name, value)
        return dataclasses.replace(case, options=tuple(own.items()))

    def _check_known(self, name: str, value: str) -> None:
        known = tuple(dict.fromkeys(self.space.get(name, ())))
        if known and value not in known:
            raise SparsityError(
                f"case: {name}={value}: {self.op.name} has {', '.join(map(str, known))}"
            )

    def _settled_examples(self) -> dict[str, Value]:
        """A value of each of its own parameters, as they are in a case."""
        drawn = {name: self.space[name][-1] for name in self.options}
        return self.settled(drawn) if drawn else {}


def values_of(case: Case) -> dict[str, Any]:
    """The values of a case's fields and options by name."""
    return {name: getattr(case, name) for name in FIELDS} | dict(case.options)


def with_values(case: Case, values: Mapping[str, Any]) -> Case:
    """A case with these values in place of its own."""
    own = {name: values[name] for name, _ in case.options}
    fields = {name: values[name] for name in FIELDS}
    return dataclasses.replace(case, **fields, options=tuple(own.items()))


def _as(kind: type, name: str, value: Value) -> Value:
    """``value`` as ``kind``, which its text may stand for."""
    if isinstance(value, kind) and (kind is bool) == isinstance(value, bool):
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if kind is tuple and isinstance(value, int) and not isinstance(value, bool):
        return (value,)
    raise SparsityError(f"case: {name}={value}: give {EXAMPLES[kind]}")


def one_at_a_time(own: OpRecord, kernel: Kernel) -> list[Case]:
    """Edge cases of any op: every value of every parameter, the others at their simplest."""
    takes = {"rows": lambda rows: rows <= kernel.max_rows, "dtype": kernel.dtypes.__contains__}
    among = {
        name: [v for v in dict.fromkeys(values) if name not in takes or takes[name](v)]
        for name, values in own.space.items()
        if name != "seed"
    }
    if missing := [name for name, values in among.items() if not values]:
        raise SparsityError(
            f"{kernel.id} takes no {missing[0]} that cases of {own.op.name} have: "
            f"{', '.join(map(str, own.space[missing[0]]))}"
        )
    simplest = {name: values[0] for name, values in among.items()}
    drawn = [simplest | {name: value} for name, values in among.items() for value in values]
    return list(dict.fromkeys(map(own.case_of, drawn)))
