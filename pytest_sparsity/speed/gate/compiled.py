"""Figures of the code that a compiler makes for GPUs, which need not be there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pytest_sparsity.checking import static
from pytest_sparsity.checking.records import record
from pytest_sparsity.checking.trial import Trial
from pytest_sparsity.kernels.registry import Kernel

if TYPE_CHECKING:
    from pytest_sparsity.checking.compilation import Compiled


def figures(kernel: Kernel) -> dict[str, int]:
    """Registers, spills, launches and load width of a Triton kernel, at a shape of decoding.

    For a process in which ``compilation.install`` was called before kernels were imported.

    Returns:
        Named as in ``static_metrics``, with the architecture: ``registers sm_90``.

    Raises:
        CheckFailure: it does not compile, or not well.
    """
    case = record(kernel.op).compiled_cases(kernel)[0]
    launched = static.measured(Trial(kernel, case))
    operands = {name for launch in launched for name in launch.loads}
    found: dict[str, int] = {}
    for arch in sorted({launch.arch for launch in launched}):
        own = [launch for launch in launched if launch.arch == arch]
        found |= {
            f"launches sm_{arch}": len(own),
            f"registers sm_{arch}": max(launch.registers for launch in own),
            f"spills sm_{arch}": max(launch.spilled for launch in own),
        }
        for operand in sorted(operands):
            if operand.split(".")[0] != kernel.definition.leading and (
                bits := _widest(own, operand)
            ):
                found[f"load_bits sm_{arch} {operand}"] = bits
    return found


def _widest(launches: Iterable[Compiled], operand: str) -> int:
    return max((max(launch.loads.get(operand, {0: 0})) for launch in launches), default=0)
