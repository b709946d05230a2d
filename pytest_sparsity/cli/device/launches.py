"""``python -m pytest_sparsity.cli.device.launches``: each kernel a few times, for a sanitizer.

compute-sanitizer makes a launch some hundred times slower, so that operands are small.
"""

from __future__ import annotations

from itertools import islice

import torch

from pytest_sparsity.checking.records import record
from pytest_sparsity.checking.trial import Trial
from pytest_sparsity.kernels.dispatch import obstacle
from pytest_sparsity.kernels.registry import registered

CASES = 3


def main() -> None:
    """Call every Triton and CUDA kernel with the operands of its first edge cases."""
    for kernel in registered().values():
        if kernel.backend not in ("triton", "cuda"):
            continue
        cases = record(kernel.op).edge_cases(kernel)
        runs = (case for case in cases if obstacle(kernel, "cuda", case.dtype) is None)
        for case in islice(runs, CASES):
            trial = Trial(kernel, case, device="cuda")
            trial.call(trial.inputs())
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
