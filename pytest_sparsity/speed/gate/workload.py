"""The operands on which the gate times a kernel, like those of decoding, and a check of results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pytest_sparsity.checking.case import Case
from pytest_sparsity.checking.failure import CheckFailure
from pytest_sparsity.checking.records import record
from pytest_sparsity.checking.trial import Trial, same_bits
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import sha256_text
from pytest_sparsity.kernels.registry import Kernel
from pytest_sparsity.kernels.sources import sources_hash
from pytest_sparsity.reference.operands import arguments, tensors
from pytest_sparsity.speed.gate.static_metrics import weight_bytes
from pytest_sparsity.targets import HardwareTarget

#: Channels and outputs: tens of MB of weights, milliseconds of work; and for the smoke profile.
_SHAPES: Mapping[str, tuple[int, int]] = {"cpu": (2048, 4096), "cuda": (4096, 14336)}
_SMALL = (256, 512)
#: What a round of the copies reads is so many times the caches: least recently used is evicted.
_CACHES = 3
#: Where the system does not tell; and what the copies may take.
_LEAST_CACHE, _MOST_BYTES, _MOST_COPIES = 16 << 20, 512 << 20, 64
_OURS = "pytest_sparsity.kernels."


@dataclass(frozen=True)
class Workload:
    """A kernel at the shape at which it is gated."""

    kernel: Kernel
    case: Case

    @classmethod
    def of(cls, kernel: Kernel, device: str, small: bool, seed: int) -> Workload:
        """One row, half of the channels active, bfloat16 if the kernel takes it.

        Args:
            kernel: as registered.
            device: ``"cpu"`` or ``"cuda"``.
            small: as in the smoke profile, where times mean little.
            seed: of the operands.

        Raises:
            SparsityError: the op's record does not say at which case it is timed.
        """
        k, n = _SHAPES[device]
        if small:
            k, n = _SMALL
        dtype = "bfloat16" if "bfloat16" in kernel.dtypes else kernel.dtypes[0]
        case = Case(1, k, n, dtype, seed=seed)
        own = record(kernel.op)
        if own.timed is None:
            raise SparsityError(
                f"{kernel.id} cannot be gated: the record of {kernel.op} has no timed case; give "
                "@sparse_op(timed=...)"
            )
        return cls(kernel, own.timed(case))

    @cached_property
    def inputs(self) -> Any:
        """The operands, on the CPU."""
        return Trial(self.kernel, self.case).inputs()

    @property
    def operands(self) -> dict[str, Any]:
        """The operands by keyword."""
        return arguments(self.inputs)

    @cached_property
    def weight_bytes(self) -> int:
        """Bytes of weights that a call must read."""
        return weight_bytes(self.kernel, self.inputs)

    def copies(self, target: HardwareTarget) -> int:
        """Copies of the operands to be used in turn, so that a call finds none in a cache.

        What a call reads of one copy is the weights of active channels, so it is these that must
        fill the caches, not the operands.  A GPU's cache is flushed instead.
        """
        if target.kind != "cpu":
            return 1
        size = sum(t.untyped_storage().nbytes() for t in tensors(self.inputs).values())
        caches = max(target.cache_bytes, _LEAST_CACHE)
        wanted = -(-_CACHES * caches // max(self.weight_bytes, 1))
        return max(2, min(wanted, _MOST_BYTES // max(size, 1), _MOST_COPIES))

    def fault(self, output: Any, right: Any = None) -> str | None:
        """What is wrong with a result; None if nothing is.

        Args:
            output: the result, on the CPU.
            right: a result that was checked before; one that equals it bit for bit is right, too.
        """
        trial = Trial(self.kernel, self.case)
        try:
            found = trial.tensors(output)
            if right is not None and same_bits(found, trial.tensors(right)):
                return None
            trial.verify(self.inputs, found)
        except CheckFailure as finding:
            return str(finding)
        return None


def source_of(kernel: Kernel, file: str) -> str:
    """Hash of a kernel's source: of the file, or of all files of a bundled backend."""
    if kernel.module.startswith(_OURS):
        folder = Path(file).parent
        return sources_hash(folder.name, folder.parent)
    try:
        return sha256_text(Path(file).read_text(encoding="utf-8"))[:16]
    except (OSError, UnicodeDecodeError):  # made by exec, or moved away since
        return ""
