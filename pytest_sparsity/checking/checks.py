"""The table of checks: what each proves, for which kernels, with which cases."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_sparsity.checking import (
    behaviour,
    exactness,
    far,
    memory,
    metamorphic,
    state,
    static,
    values,
    work,
)
from pytest_sparsity.checking.behaviour import RUNS
from pytest_sparsity.checking.check import Check, ordinary, relations_of
from pytest_sparsity.checking.records import record
from pytest_sparsity.checking.space import space
from pytest_sparsity.checking.trial import Trial

_FLOAT = "kernels that sum in float32 or better, of ops that declare the relation"

CHECKS: Mapping[str, Check] = {
    check.name: check
    for check in (
        Check(
            "edges",
            "right in every case in which published kernels have been wrong",
            Trial.measure,
            lambda kernel: record(kernel.op).edge_cases(kernel),
        ),
        Check(
            "fuzz",
            "within the error bound of the float64 definition, element by element, at any shape",
            Trial.measure,
            lambda kernel: space(kernel.op, kernel),
        ),
        Check(
            "exact",
            "bit-equal to the definition where float32 sums are exact: no term lost or doubled",
            exactness.exact,
            exactness.integers,
            _FLOAT,
            exactness.exact_sums,
            values="integer",
        ),
        Check(
            "scaling",
            "scaling by a power of two scales the result exactly: no hidden constant",
            metamorphic.scaling,
            exactness.scaling_cases,
            f"{_FLOAT}, deterministically",
            lambda kernel: (
                exactness.exact_sums(kernel)
                and kernel.deterministic
                and relations_of(kernel).scaled is not None
            ),
            cost=2,
        ),
        Check(
            "permutation",
            "the order of channels does not matter",
            metamorphic.permutation,
            exactness.integers,
            _FLOAT,
            lambda kernel: (
                exactness.exact_sums(kernel) and relations_of(kernel).channels is not None
            ),
            values="integer",
            cost=3,
        ),
        Check(
            "splitting",
            "results of two parts of the channels add up to the result of all",
            metamorphic.splitting,
            exactness.integers,
            _FLOAT,
            lambda kernel: exactness.exact_sums(kernel) and relations_of(kernel).parts is not None,
            values="integer",
            cost=3,
        ),
        Check(
            "ends",
            "with all channels active it is the dense layer, with none exactly the bias",
            values.ends,
            values.ends_cases,
            "kernels of ops whose results without active channels are known",
            lambda kernel: relations_of(kernel).ends is not None,
        ),
        Check(
            "repeat",
            f"up to {RUNS} runs and 1 or 2 threads give the same bits, or stay within the bound",
            behaviour.repeat,
            behaviour.repeat_cases,
            cost=RUNS,
        ),
        Check(
            "layouts",
            "right for every layout of the weights, every pitch and every address of an operand",
            values.layouts,
            values.layouts_cases,
            "kernels of ops whose operands have several layouts",
            lambda kernel: len(record(kernel.op).layouts) > 1,
        ),
        Check(
            "far",
            "right where weights lie more than 2^32 elements apart: offsets have 64 bits",
            far.run,
            far.cases,
            "kernels of ops that have weights with rows",
            far.applies,
            far.unavailable,
        ),
        Check(
            "batch",
            "rows with masks of their own are right together and alone; too many are refused",
            values.batch,
            values.batch_cases,
            "kernels of ops whose rows do not see each other",
            lambda kernel: bool(relations_of(kernel).rows),
            cost=4,
        ),
        Check(
            "contract",
            "operands beyond what the kernel says it takes are refused, or the result is right",
            values.contract,
            ordinary,
            "kernels that declare a contract",
            lambda kernel: kernel.contract.limits,
        ),
        Check(
            "inputs",
            "operands are left as they are, and every result is a new tensor",
            behaviour.inputs_kept,
            behaviour.inputs_cases,
            cost=3,
        ),
        Check(
            "bounds",
            "no memory outside of operands and results is used",
            memory.bounds,
            memory.bounds_cases,
            cost=3,
        ),
        Check(
            "state",
            "right whatever was called before, with changed operands, and by two threads at once",
            state.run,
            state.cases,
            cost=12,
        ),
        Check(
            "unread",
            "weights of skipped channels are not read",
            memory.unread,
            memory.unread_cases,
            "kernels declared to skip, of ops that say what must be read",
            lambda kernel: kernel.skips and kernel.definition.needed is not None,
            cost=5,
        ),
        Check(
            "work",
            "loads exactly the weights that are needed, once each, and nothing outside of tensors",
            work.run,
            lambda kernel: record(kernel.op).counted_cases(kernel),
            "Triton kernels, and kernels of CUDA C++ source, declared to skip",
            lambda kernel: (
                kernel.skips and (kernel.backend == "triton" or kernel.source is not None)
            ),
        ),
        Check(
            "compile",
            "compiles for sm_80, sm_90 and sm_100 without spills, with 128-bit loads of weights",
            static.run,
            lambda kernel: record(kernel.op).compiled_cases(kernel),
            "Triton kernels, and where nvcc is CUDA kernels that give their source or resources",
            lambda kernel: kernel.backend in ("triton", "cuda") and static.applies(kernel),
        ),
    )
}
