"""A program: what the compiler and the check ``compile`` say of the example kernels.

Prints a JSON object for ``test_compilation.py``.
"""

from __future__ import annotations

import json
from typing import Any

import torch
import triton_examples as examples

from pytest_sparsity.checking import compilation, interpreter, static
from pytest_sparsity.checking.case import Case
from pytest_sparsity.checking.failure import CheckFailure
from pytest_sparsity.checking.trial import Trial
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.kernels.registry import kernel, sparse_kernel

KERNELS = ("gemv", "scalar_loads", "tuned", "does_not_compile", "large_tiles", "with_torch")


def register(name: str) -> None:
    def call(x: Any, weight: Any, threshold: float, bias: Any = None) -> torch.Tensor:
        if name == "with_torch":
            return x.new_empty(1, weight.shape[0])
        return examples.call(getattr(examples, name), x, weight, threshold)

    sparse_kernel(op="sparse_linear", backend="triton", name=name, max_rows=1)(call)


def found(name: str) -> list[str]:
    trial = Trial(kernel(f"sparse_linear/{name}"), Case(1, 4096, 4096, dtype="bfloat16"))
    try:
        static.run(trial)
    except CheckFailure as finding:
        return [f"FOUND {finding}"]
    return trial.figures


def main() -> None:
    try:
        interpreter.install()
    except SparsityError as error:
        refusal = str(error)
    for name in KERNELS:
        register(name)
    x, weight = torch.ones(1, 64, dtype=torch.bfloat16), torch.ones(64, 64, dtype=torch.bfloat16)
    output_major = compilation.compiled(
        lambda: examples.call(examples.gemv, x, weight, 0.5), {"x": x, "weight": weight}, 90
    )
    report = {
        "refusal": refusal,
        "check": {name: found(name) for name in KERNELS},
        "arches": [
            launch.arch
            for arch in compilation.ARCHES
            for launch in compilation.compiled(
                lambda: examples.call(examples.gemv, x, weight.t(), 0.5), {"x": x}, arch
            )
        ],
        "output_major": [launch.widest("weight") for launch in output_major],
        "x": [launch.widest("x") for launch in output_major],
        "nowhere": [launch.widest("bias") for launch in output_major],
    }
    print(json.dumps(report))


if __name__ == "__main__":
    compilation.install()
    main()
