"""``@sparse_op``: an op of others, with everything that is not given at a default."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from pytest_sparsity.checking.case import Case, Value
from pytest_sparsity.checking.declared import check_outputs, with_defaults
from pytest_sparsity.checking.draw import Draw
from pytest_sparsity.checking.record import Cases, OpRecord
from pytest_sparsity.checking.records import add_record
from pytest_sparsity.checking.relations import Relations
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels.registry import DTYPES, Kernel
from pytest_sparsity.reference import ops
from pytest_sparsity.reference.operands import arguments
from pytest_sparsity.reference.ops import Op, Output
from pytest_sparsity.reference.precision import Precision
from pytest_sparsity.reference.stochastic import Outcomes
from pytest_sparsity.targets.work import Traffic

F = TypeVar("F", bound=Callable[..., Any])
Values = Mapping[str, Value]


def sparse_op(
    *,
    draw: Callable[[Draw], Mapping[str, Any]],
    space: Mapping[str, Sequence[Any]],
    name: str | None = None,
    check: Callable[..., None] | None = None,
    bound: Callable[..., Any] | None = None,
    needed: Callable[..., Mapping[str, Tensor]] | None = None,
    outputs: Sequence[Output] = (Output(),),
    leading: str | None = None,
    relations: Relations | None = None,
    fitted: Callable[[Case], Case] = lambda case: case,
    edges: Iterable[Values] | None = None,
    compiled: Iterable[Values] | None = None,
    timed: Values | None = None,
    traffic: Traffic | None = None,
) -> Callable[[F], F]:
    """Make the decorated function the definition of an op, and return it unchanged.

    The definition is plain torch code on the operands that kernels take, by the same names; all
    floating-point tensors among them come as float64 (dataclasses of packed ones as they are).  It
    gives a tensor, or several in a tuple.
    Weights that need not be read may be NaN: choose by ``torch.where`` or by index, and do not
    multiply by zero.  What depends on computed values (a threshold on them, the largest ones, the
    nearest whole numbers) is decided by ``above``, ``largest`` and ``rounded``.

    Args:
        draw: the operands of a case, by name; everything random comes from the draw.
        space: values of the fields of ``Case`` that the op has (rows, k, n, dtype, pattern, ...)
            and of its own parameters, the simplest first.
        name: of the op; that of the function by default.
        check: called with the operands; raises ValueError or TypeError on those that the op is
            not defined for.
        bound: called with the operands and ``precision``; the largest error of a right kernel,
            float64 of the result's shape, or one for each tensor.  By default it is computed
            from the definition (``reference.stochastic``).
        needed: called with the operands; per weight tensor a bool tensor of its shape: what a
            sparse kernel reads.  By default kernels may read everything.
        outputs: the tensors of the result.
        leading: the operand whose dtype and device the result has, and whose rows are tokens;
            the first one by default.
        relations: between results; none by default.
        fitted: the case that the op can have, from one that it nearly can.
        edges: values of parameters in which kernels go wrong, the others at their simplest; by
            default every value of every parameter.
        compiled: values of parameters for which Triton kernels are compiled; none by default.
        timed: values of parameters at which the speed gate times; by default it does not.
        traffic: the bytes that a call moves, for rooflines.

    Raises:
        SparsityError: there is such an op already, or the definition's parameters, the space or
            an argument do not go together.
    """

    def register(define: F) -> F:
        if isinstance(define, type):
            raise SparsityError(f"@sparse_op: {define!r} is no function that defines an op")
        check_outputs(outputs)
        own: str = name or str(getattr(define, "__name__", ""))
        if not own.isidentifier():
            raise SparsityError(f"@sparse_op(name={own!r}): give a name that is an identifier")
        inputs = _inputs(own, define, check)
        first = leading or next(iter(inspect.signature(define).parameters))
        if first not in {field.name for field in dataclasses.fields(inputs)}:
            raise SparsityError(f"@sparse_op(leading={first!r}): {own} has no such operand")
        spaced = with_defaults(own, space)
        outcomes = _outcomes(define, outputs, first)
        op = Op(
            name=own,
            inputs=inputs,
            define=lambda given: define(**wide(arguments(given))),
            bound=_bound(outcomes, bound, outputs),
            needed=None if needed is None else lambda given: needed(**arguments(given)),
            outputs=tuple(outputs),
            leading=first,
            module=define.__module__,
            file=getattr(getattr(define, "__code__", None), "co_filename", ""),
            outcomes=outcomes,
            computed=bound is None,
            execution=getattr(define, "__globals__", None),
            takes=tuple(dict.fromkeys(space.get("dtype", DTYPES))),
            about=(inspect.getdoc(define) or "").partition("\n")[0],
        )
        made = OpRecord(
            op=op,
            draw=lambda drawn: inputs(**draw(drawn)),
            space=spaced,
            fitted=fitted,
            relations=relations or Relations(),
            traffic=traffic,
            foreign=True,
        )
        made = dataclasses.replace(
            made,
            edges=_listed(made, "edges", edges),
            compiled=_listed(made, "compiled", compiled),
            decoding=None if compiled is None else made.build,
            timed=None if timed is None else _timed(_case(made, "timed", timed)),
        )
        try:
            ops.add(op)
        except ValueError as error:
            raise SparsityError(
                f"@sparse_op(name={own!r}): there is an op of this name, {error}; choose another"
            ) from None
        add_record(made)
        return define

    return register


def wide(operands: Mapping[str, Any]) -> dict[str, Any]:
    """Operands with floating-point tensors as float64; those inside packed ones stay as stored."""

    def widened(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return type(value)(map(widened, value)) if type(value) in (list, tuple) else value
        if not isinstance(value, Tensor):
            return value
        own = value.detach()
        # Copies in any case: a definition may work in place.
        return own.to(torch.float64, copy=True) if own.is_floating_point() else own.clone()

    return {name: widened(value) for name, value in operands.items()}


def _inputs(name: str, define: Callable[..., Any], check: Callable[..., None] | None) -> type[Any]:
    """A dataclass of the operands that a definition takes, checked when it is made."""
    fields: list[Any] = []
    try:
        parameters = inspect.signature(define).parameters.values()
    except (TypeError, ValueError) as error:
        raise SparsityError(
            f"@sparse_op: the parameters of the definition of {name} are not known ({error}); wrap "
            "it in a function that names its operands"
        ) from error
    for each in parameters:
        if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD, each.POSITIONAL_ONLY):
            raise SparsityError(
                f"@sparse_op: the definition of {name} has the parameter {str(each)!r}; name all "
                "operands, since kernels are called with them by keyword"
            )
        given = each.default is not each.empty
        fields.append(
            (each.name, Any, dataclasses.field(default=each.default)) if given else (each.name, Any)
        )
    if not fields:
        raise SparsityError(f"@sparse_op: the definition of {name} takes no operands")
    body = {} if check is None else {"__post_init__": lambda self: check(**arguments(self))}
    title = "".join(word.capitalize() for word in name.split("_"))
    return dataclasses.make_dataclass(
        f"{title}Inputs", fields, frozen=True, eq=False, namespace=body
    )


def _outcomes(
    define: Callable[..., Any], outputs: Sequence[Output], leading: str
) -> Callable[[Any, Precision], Outcomes]:
    def outcomes(inputs: Any, precision: Precision) -> Outcomes:
        own = getattr(inputs, leading).dtype
        dtypes = [own if o.dtype == "operand" else getattr(torch, o.dtype) for o in outputs]
        return Outcomes(define, wide(arguments(inputs)), precision, dtypes)

    return outcomes


def _bound(
    outcomes: Callable[[Any, Precision], Outcomes],
    given: Callable[..., Any] | None,
    outputs: Sequence[Output],
) -> Callable[[Any, Precision], Any] | None:
    if all(output.kind != "numbers" for output in outputs):
        return None
    if given is not None:
        return lambda inputs, precision: given(**arguments(inputs), precision=precision)
    return lambda inputs, precision: outcomes(inputs, precision).widened


def _listed(own: OpRecord, argument: str, given: Iterable[Values] | None) -> Cases | None:
    """The cases with these values, of dtypes and numbers of rows that a kernel takes."""
    if given is None:
        return None
    cases = [_case(own, argument, values) for values in given]

    def taken(own: OpRecord, kernel: Kernel) -> list[Case]:
        return [c for c in cases if c.dtype in kernel.dtypes and c.rows <= kernel.max_rows]

    return taken


def _case(own: OpRecord, argument: str, values: Values) -> Case:
    """The simplest case with these values."""
    for name in values:
        if name not in own.space:
            raise SparsityError(
                f"@sparse_op({argument}=...): {own.op.name} has no {name!r}; its space has "
                f"{', '.join(own.space)}"
            )
    return own.case_of({name: among[0] for name, among in own.space.items()} | dict(values))


def _timed(at: Case) -> Callable[[Case], Case]:
    """That case, of the dtype and seed of another."""
    return lambda case: dataclasses.replace(at, dtype=case.dtype, seed=case.seed)
