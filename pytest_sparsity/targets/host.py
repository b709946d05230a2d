"""The processor this process runs on, described without importing anything heavy."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pytest_sparsity.targets.caches import CPUS, Cache, read_sysctl, read_sysfs

#: Processor flags that decide which kernels run, as /proc/cpuinfo spells them.
_X86_FLAGS = (
    *("avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("avx_vnni", "amx_tile", "amx_int8", "amx_bf16"),
)
_ARM_FLAGS = {"asimd": "neon", "asimddp": "dotprod", "sve": "sve", "i8mm": "i8mm", "bf16": "bf16"}
_APPLE_FLAGS = {
    "hw.optional.neon": "neon",
    "hw.optional.arm.FEAT_DotProd": "dotprod",
    "hw.optional.arm.FEAT_I8MM": "i8mm",
    "hw.optional.arm.FEAT_BF16": "bf16",
    "hw.optional.avx2_0": "avx2",
    "hw.optional.avx512f": "avx512f",
}

#: Every name that may stand in ``HardwareTarget.isa`` of a CPU.
ISA = frozenset((*_X86_FLAGS, *_ARM_FLAGS.values(), *_APPLE_FLAGS.values()))


@dataclass(frozen=True)
class HardwareTarget:
    """One place where a model or a kernel can run.

    Attributes:
        kind: ``"cpu"`` or ``"cuda"``.
        name: the processor's or the GPU's own name.
        isa: sorted instruction-set flags that matter (``("sm_90",)`` for a GPU).
        cores: logical processors this process may use, or multiprocessors of a GPU.
        memory_bytes: main memory, or memory of the GPU; 0 where it cannot be told.
        fast_bfloat16: whether matrix products in bfloat16 are faster than in float32.
        index: number of the GPU; 0 for the CPU.
        caches: caches that this process may use, innermost first; of a GPU its L2 cache.  Empty
            where they cannot be told.
        capability: compute capability of a CUDA device, (9, 0) for an H100.
    """

    kind: str
    name: str
    isa: tuple[str, ...]
    cores: int
    memory_bytes: int
    fast_bfloat16: bool
    index: int = 0
    caches: tuple[Cache, ...] = ()
    capability: tuple[int, int] | None = None

    @property
    def cache_bytes(self) -> int:
        """Bytes of the outermost caches together; 0 where they cannot be told."""
        return self.caches[-1].total if self.caches else 0

    @property
    def bandwidth(self) -> float:
        """Bytes per second that all cores read from memory, or that a copy on the GPU moves.

        Measured when first asked for, in a second or two, and kept for the day.
        """
        from pytest_sparsity.targets.bandwidth import measured

        return measured(self)

    @property
    def device(self) -> str:
        """The name torch knows it by: ``"cpu"``, ``"cuda:0"``."""
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.index}"

    @property
    def fingerprint(self) -> str:
        """Short stable text, equal on machines whose results may be compared."""
        content = "\n".join((self.kind, self.name, *self.isa))
        return f"{self.kind}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


@functools.cache
def host_target() -> HardwareTarget:
    """The CPU of this machine (Linux, macOS; elsewhere what ``platform`` can tell)."""
    system = platform.system()
    if system == "Linux" and (cpuinfo := _read(Path("/proc/cpuinfo"))):
        name, isa = parse_cpuinfo(cpuinfo)
    elif system == "Darwin":
        name = _sysctl("machdep.cpu.brand_string")
        isa = tuple(sorted({flag for key, flag in _APPLE_FLAGS.items() if _sysctl(key) == "1"}))
    else:
        name, isa = platform.processor(), ()
    # Arm's BFMMLA is only used by the Linux builds of torch (through oneDNN and the Arm
    # Compute Library); on macOS bfloat16 products take a slow path.
    fast = bool({"avx512_bf16", "amx_bf16"} & set(isa)) or (system == "Linux" and "bf16" in isa)
    return HardwareTarget(
        kind="cpu",
        name=name or platform.machine() or "unknown CPU",
        isa=isa,
        cores=len(_usable_cpus()),
        memory_bytes=_memory_bytes(),
        fast_bfloat16=fast,
        caches=read_sysctl(_sysctl) if system == "Darwin" else read_sysfs(CPUS, _usable_cpus()),
    )


def parse_cpuinfo(text: str) -> tuple[str, tuple[str, ...]]:
    """Name and sorted relevant flags of the first processor in the text of /proc/cpuinfo.

    Family and model numbers are part of an x86 name, because virtual machines report
    different processors under one name; Arm processors have the numbers only.
    """
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip().lower(), value.strip())
    if "flags" in fields:
        flags = set(fields["flags"].split())
        name = fields.get("model name", "x86")
        if "cpu family" in fields and "model" in fields:
            name += f", family {fields['cpu family']} model {fields['model']}"
        return name, tuple(sorted(flags.intersection(_X86_FLAGS)))
    flags = set(fields.get("features", "").split())
    numbers = [fields[key] for key in ("cpu implementer", "cpu part") if key in fields]
    name = fields.get("model name") or " ".join(["Arm", *numbers] if numbers else [])
    return name, tuple(sorted(ours for theirs, ours in _ARM_FLAGS.items() if theirs in flags))


def _usable_cpus() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return 0


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _sysctl(key: str) -> str:
    """The value of a macOS kernel variable, empty where it does not exist."""
    try:
        done = subprocess.run(
            ["sysctl", "-n", key], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
