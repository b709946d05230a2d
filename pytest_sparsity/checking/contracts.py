"""Sees that the contract of a kernel speaks of what its op has."""

from __future__ import annotations

import dataclasses

from pytest_sparsity.checking.record import OpRecord
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels.registry import Kernel
from pytest_sparsity.reference import operands
from pytest_sparsity.reference.decisions import comparisons


def check_contract(own: OpRecord, kernel: Kernel) -> None:
    """See that a contract speaks of what the op has.

    Raises:
        SparsityError: it names something else, or promises what means nothing for the op.
    """
    _check_values(own, kernel)
    _check_names(own, kernel)
    contract = kernel.contract
    if contract.keeps == ">=" and not _compares(own):
        raise SparsityError(
            f"{kernel.id}: its contract keeps '>=', and {own.op.name} compares nothing with a "
            "threshold (above, in its definition)"
        )
    if contract.granularity:
        _check_blocks(own, kernel)
    if kernel.skips and contract.outside and own.op.needed is not None:
        masks = own.op.needed(own.build(own.simplest))
        if all(name.partition(".")[0] in contract.outside for name in masks):
            raise SparsityError(
                f"{kernel.id}: its contract leaves all weights of {own.op.name} to another "
                "library, which reads them all: declare skips=False"
            )


def _check_values(own: OpRecord, kernel: Kernel) -> None:
    contract, values = kernel.contract, own.values
    for name in (*contract.multiples, *contract.only):
        if name not in values:
            raise SparsityError(
                f"{kernel.id}: its contract tells of {name!r}, which {own.op.name} has not; "
                f"it has {', '.join(values)}"
            )
    for name, among in contract.only.items():
        if name in own.space and not set(among) & set(own.space[name]):
            raise SparsityError(
                f"{kernel.id}: its contract has {name} only in {tuple(among)!r}, and cases of "
                f"{own.op.name} have none of these"
            )


def _check_names(own: OpRecord, kernel: Kernel) -> None:
    known = [field.name for field in dataclasses.fields(own.op.inputs)]
    known.remove(own.op.leading)
    for what, names in (("adds", kernel.contract.adds), ("outside", kernel.contract.outside)):
        # The bounds that are derived by hand know of no other addition.
        among = known if own.foreign or what == "outside" else [n for n in known if n == "bias"]
        for name in names:
            if name not in among:
                raise SparsityError(
                    f"{kernel.id}: its contract has {what}={{{name!r}: ...}}, which is none of "
                    f"{own.op.name}; it has {', '.join(among) or 'nothing to add'}"
                )


def _check_blocks(own: OpRecord, kernel: Kernel) -> None:
    if own.op.needed is None:
        raise SparsityError(
            f"{kernel.id}: its contract tells of granularity, and {own.op.name} does not say what "
            "must be read (needed)"
        )
    masks = own.op.needed(own.build(own.simplest))
    tensors = operands.tensors(own.build(own.simplest))
    for name, block in kernel.contract.granularity.items():
        if name not in masks:
            raise SparsityError(
                f"{kernel.id}: its contract has granularity of {name!r}, which is no weight that "
                f"{own.op.name} may skip; those are {', '.join(masks)}"
            )
        if len(block) != tensors[name].ndim:
            raise SparsityError(
                f"{kernel.id}: its contract has granularity {tuple(block)} of {name}, which has "
                f"{tensors[name].ndim} dimensions"
            )


def _compares(own: OpRecord) -> bool:
    before = comparisons()
    own.op.define(own.build(own.simplest))
    return comparisons() > before
