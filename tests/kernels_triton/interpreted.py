"""Runs Triton kernels in the interpreter on a few cases each, for ``test_kernels.py``.

Arguments: ids of kernels.  Per case one line of JSON: [id, tiles, case, share of the bound, or
what is wrong].  Needs TRITON_INTERPRET=1 in the environment.
"""

from __future__ import annotations

import json
import sys

from pytest_sparsity.checking import interpreter
from pytest_sparsity.checking.case import Case, Value
from pytest_sparsity.checking.failure import CheckFailure
from pytest_sparsity.checking.records import record
from pytest_sparsity.checking.trial import Trial
from pytest_sparsity.kernels import registry
from pytest_sparsity.kernels.triton import configurations, launching

CASES = (
    Case(1, 1, 1, bias=True),
    Case(1, 257, 129, dtype="bfloat16", bias=True, pattern="last", seed=1),
    Case(3, 130, 65, dtype="float16", pattern="rows_differ", layout="column_slice", seed=2),
    Case(8, 66, 41, dtype="bfloat16", bias=True, pattern="ties", layout="strided", seed=3),
    Case(2, 65, 130, pattern="nan", layout="pitch", bias=True, seed=4),
    Case(5, 128, 576, dtype="float16", level=0.9, layout="output_major", seed=5),
    Case(4, 96, 64, dtype="bfloat16", pattern="none", bias=True, seed=6),
    Case(7, 200, 33, values="integer", level=0.25, layout="offset", seed=7),
)
OPTIONS: dict[str, tuple[dict[str, Value], ...]] = {
    "sparse_qkv": (
        {"sizes": (1, 1, 1)},
        {"sizes": (65, 31, 33)},
        {"sizes": (129, 255, 3)},
        {"sizes": (576, 192, 192)},
    ),
    "sparse_swiglu": (
        {"hidden": 33, "activation": "silu"},
        {"hidden": 257, "activation": "gelu_tanh"},
        {"hidden": 1, "activation": "relu"},
        {"hidden": 130, "activation": "relu2"},
    ),
    "hot_cold_mlp": (
        {"hidden": 130, "hot": 40, "gate": True, "activation": "silu"},
        {"hidden": 257, "hot": 0, "gate": False, "activation": "gelu_tanh"},
        {"hidden": 33, "hot": 33, "gate": False, "activation": "relu"},
        {"hidden": 64, "hot": 7, "gate": True, "activation": "relu2"},
    ),
    "sparse_quantized_linear": (
        {"bits": 8},
        {"bits": 4, "group": 32},
        {"bits": 4, "group": 1},
        {"bits": 4, "group": 6},
    ),
    "semi_structured_linear": ({"nm": (2, 4)}, {"nm": (4, 8)}, {"nm": (8, 16)}),
}


def cases(op: str) -> list[Case]:
    options = OPTIONS.get(op, ({},))
    own = record(op)
    known = [case for case in CASES if case.pattern in own.patterns]
    chosen = [options[index % len(options)] for index in range(len(known))]
    return [own.fitted(c.with_options(**o)) for c, o in zip(known, chosen, strict=True)]


def result(kernel: registry.Kernel, case: Case) -> float | str:
    try:
        return Trial(kernel, case).measure()
    except CheckFailure as finding:
        return str(finding)


def main() -> None:
    interpreter.install()
    processors = launching.processors
    for kernel_id in sys.argv[1:]:
        kernel = registry.kernel(kernel_id)
        for index, case in enumerate(cases(kernel.op)):
            # With the tiles of a GPU too: many programs and iterations, and so fewer cases.
            for tiles in ("interpreter", "gpu")[: 1 + (index < 4)]:
                launching.processors = (
                    processors if tiles == "interpreter" else lambda x: configurations.PROCESSORS
                )
                print(json.dumps([kernel_id, tiles, str(case), result(kernel, case)]), flush=True)


if __name__ == "__main__":
    main()
