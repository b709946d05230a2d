"""Compiles what Triton kernels launch, without a GPU, for ``test_kernels.py``.

Arguments: ids of kernels.  Per launch one line of JSON: [id, case, kernel, registers, bytes
spilled, {operand: bits of its widest load}].  Rows 2 to 4 and float32; the check ``compile`` of
the kernel suite has the others.
"""

from __future__ import annotations

import json
import sys

from pytest_sparsity.checking import compilation
from pytest_sparsity.checking.case import Case
from pytest_sparsity.checking.records import record
from pytest_sparsity.checking.trial import Trial
from pytest_sparsity.kernels import registry
from pytest_sparsity.reference import operands

CASES = (
    Case(1, 4096, 4096, dtype="float32"),
    Case(2, 4096, 4096, dtype="bfloat16"),
    Case(4, 4096, 4096, dtype="bfloat16"),
)


def report(kernel: registry.Kernel, case: Case) -> None:
    make = record(kernel.op).decoding
    assert make is not None
    inputs = make(case)
    trial, tensors = Trial(kernel, case), operands.tensors(inputs)
    for launch in compilation.compiled(lambda: trial.call(inputs), tensors, 90):
        widest = {name: launch.widest(name) for name in tensors}
        found = [launch.kernel, launch.registers, launch.spilled, widest]
        print(json.dumps([kernel.id, str(case), *found]), flush=True)


def main() -> None:
    compilation.install()
    for kernel_id in sys.argv[1:]:
        kernel = registry.kernel(kernel_id)
        for case in CASES:
            if kernel.op == "sparse_quantized_linear":
                report(kernel, case.with_options(bits=8))
                report(kernel, case.with_options(bits=4, group=128))
            else:
                report(kernel, case)


if __name__ == "__main__":
    main()
