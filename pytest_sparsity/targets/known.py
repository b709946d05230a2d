"""Accelerators and processors that a user may not have at hand: published figures and sources.

Bandwidths are peaks of datasheets, which nothing reaches; the processor cores of Apple's larger
chips share theirs with the GPU.  Times computed from them are what no kernel goes below, not what
to expect.  What the maker does not publish, and nobody has read off a device in public, is None
rather than a guess.  docs/targets.md says where each figure was looked up a second time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pytest_sparsity.core.errors import SparsityError


@dataclass(frozen=True)
class Source:
    """Where figures are from: the title of a document, and its address."""

    title: str
    url: str


@dataclass(frozen=True)
class Figure:
    """A published number and the source it is from."""

    value: float
    source: Source


@dataclass(frozen=True)
class Known:
    """One accelerator or processor.

    Attributes:
        key: what a user calls it: ``h100-sxm``.  ``h100`` names all whose keys begin with it.
        name: the product's name.
        pattern: regular expression that the name the driver or the system reports matches.
        kind: ``"cuda"`` (torch's word, for AMD's GPUs too) or ``"cpu"``.
        bandwidth: peak bytes per second of the memory.
        memory: bytes; where it is sold in several sizes the largest, None where it is plugged in.
        units: multiprocessors, compute units or cores.
        cache: bytes of the outermost cache, all of its parts.
        overhead: seconds that a kernel costs besides its work.
    """

    key: str
    name: str
    pattern: str
    kind: str
    bandwidth: Figure
    memory: Figure | None
    units: Figure
    cache: Figure | None
    overhead: Figure | None

    def matches(self, name: str) -> bool:
        """Whether a device that reports this name is one of these; a slice of one (MIG) is not."""
        return re.search(self.pattern, name) is not None and not _SLICE.search(name)


_SLICE = re.compile(r"\bMIG\b")  # has a part of the memory's bandwidth


_AMPERE = Source(
    "NVIDIA A100 Tensor Core GPU Architecture, whitepaper",
    "https://images.nvidia.com/aem-dam/en-zz/Solutions/data-center/"
    "nvidia-ampere-architecture-whitepaper.pdf",
)
_A100 = Source(
    "NVIDIA A100 Tensor Core GPU, datasheet",
    "https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/a100/pdf/"
    "nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf",
)
_HOPPER = Source(
    "NVIDIA Hopper Architecture In-Depth, NVIDIA technical blog",
    "https://developer.nvidia.com/blog/nvidia-hopper-architecture-in-depth/",
)
_H100 = Source("NVIDIA H100, specifications", "https://www.nvidia.com/en-us/data-center/h100/")
_H200 = Source("NVIDIA H200, specifications", "https://www.nvidia.com/en-us/data-center/h200/")
_H200_SM = Source(
    "H200 hardware architecture: 132 multiprocessors, six stacks of HBM3e",
    "https://ai-hpc.github.io/ai-hardware-engineer-roadmap/Phase%205%20-%20Advanced%20Topics%20"
    "and%20Specialization/1.%20GPU%20Infrastructure/Nvidia%20GPU/HPC%20Setup/"
    "8x-H200-Training-Inference/01-Hardware-Architecture",
)
_H200_L2 = Source(  # the 50 MB of an H100 belong to ten; not read off a device
    "H200: twelve memory controllers, as the full GH100, which has 60 MB",
    "https://github.com/accel-sim/accel-sim-framework/issues/534",
)
_L4 = Source("NVIDIA L4, specifications", "https://www.nvidia.com/en-us/data-center/l4/")
_L4_DEVICE = Source(
    "deviceQuery on an NVIDIA L4",
    "https://github.com/bottlerocket-os/bottlerocket-kernel-kit/pull/139",
)
_L40S = Source("NVIDIA L40S, specifications", "https://www.nvidia.com/en-us/data-center/l40s/")
_L40S_DEVICE = Source(
    "deviceQuery on an NVIDIA L40S", "https://github.com/alvarobartt/cuda-device-query"
)
_ADA = Source(
    "NVIDIA Ada GPU Architecture, whitepaper",
    "https://images.nvidia.com/aem-dam/Solutions/Data-Center/l4/"
    "nvidia-ada-gpu-architecture-whitepaper-v2.1.pdf",
)
_GA102 = Source(
    "NVIDIA Ampere GA102 GPU Architecture, whitepaper V2",
    "https://www.nvidia.com/content/PDF/nvidia-ampere-ga-102-gpu-architecture-whitepaper-v2.pdf",
)
_GRAPHS = Source(
    "Getting Started with CUDA Graphs, NVIDIA technical blog: 3.4 us per kernel of 2.9 us, V100",
    "https://developer.nvidia.com/blog/cuda-graphs/",
)
_MI300X = Source(
    "AMD Instinct MI300X, specifications",
    "https://www.amd.com/en/products/accelerators/instinct/mi300/mi300x.html",
)
_ROCM = Source(
    "AMD GPU specifications, ROCm documentation",
    "https://rocm.docs.amd.com/en/latest/reference/gpu-specs.html",
)
_M1 = Source(
    "Wikipedia: Apple M1 (128 bits of LPDDR4X-4266; Apple gives no bandwidth)",
    "https://en.wikipedia.org/wiki/Apple_M1",
)
_M1_PRO = Source(
    "Apple Newsroom: Introducing M1 Pro and M1 Max",
    "https://www.apple.com/newsroom/2021/10/"
    "introducing-m1-pro-and-m1-max-the-most-powerful-chips-apple-has-ever-built/",
)
_M2 = Source(
    "Apple Newsroom: Apple unveils M2",
    "https://www.apple.com/newsroom/2022/06/"
    "apple-unveils-m2-with-breakthrough-performance-and-capabilities/",
)
_M2_PRO = Source(
    "Apple Newsroom: Apple unveils M2 Pro and M2 Max",
    "https://www.apple.com/newsroom/2023/01/"
    "apple-unveils-m2-pro-and-m2-max-next-generation-chips-for-next-level-workflows/",
)
_M3 = Source(
    "AnandTech: Apple Announces M3 SoC Family",
    "https://www.anandtech.com/show/21116/"
    "apple-announces-m3-soc-family-m3-m3-pro-and-m3-max-make-their-marks",
)
_M4 = Source(
    "Apple Newsroom: Apple introduces M4 Pro and M4 Max",
    "https://www.apple.com/newsroom/2024/10/apple-introduces-m4-pro-and-m4-max/",
)
_GENOA = Source(
    "AMD EPYC 9654, specifications: 12 channels of DDR5-4800",
    "https://www.amd.com/en/products/processors/server/epyc/"
    "4th-generation-9004-and-8004-series/amd-epyc-9654.html",
)
_TURIN = Source(
    "AMD EPYC 9755, specifications: 12 channels of DDR5-6400",
    "https://www.amd.com/en/products/processors/server/epyc/9005-series/amd-epyc-9755.html",
)
_SAPPHIRE = Source(
    "Intel Xeon Platinum 8480+, specifications: 8 channels of DDR5-4800",
    "https://www.intel.com/content/www/us/en/products/sku/231746/"
    "intel-xeon-platinum-8480-processor-105m-cache-2-00-ghz/specifications.html",
)

_GB, _MIB = 1e9, 1 << 20
_LAUNCH = Figure(0.5e-6, _GRAPHS)


def _gpu(
    key: str,
    name: str,
    pattern: str,
    bandwidth: tuple[float, Source],
    memory: tuple[float, Source],
    units: tuple[int, Source],
    cache: tuple[float, Source],
    overhead: Figure | None = _LAUNCH,
) -> Known:
    """A row for a GPU, in GB/s, GB, multiprocessors and MiB of L2 cache."""
    return Known(
        key,
        name,
        pattern,
        "cuda",
        Figure(bandwidth[0] * _GB, bandwidth[1]),
        Figure(memory[0] * _GB, memory[1]),
        Figure(*units),
        Figure(cache[0] * _MIB, cache[1]),
        overhead,
    )


def _apple(name: str, bandwidth: float, memory: float, cores: int, source: Source) -> Known:
    """A row in GB/s that CPU and GPU share, GB at most and cores of the CPU at most.

    A chip is sold in several sizes under one name, and these are the figures of the largest: an
    M3 Max of 14 cores has 300 GB/s, an M4 Max of 14 cores 410 GB/s.
    """
    return Known(
        f"apple-{name.lower().replace(' ', '-')}",
        f"Apple {name} (CPU)",
        f"^Apple {name}$",
        "cpu",
        Figure(bandwidth * _GB, source),
        Figure(memory * _GB, source),
        Figure(cores, source),
        None,
        None,
    )


def _server(
    key: str, name: str, pattern: str, bandwidth: float, cores: int, cache: float, source: Source
) -> Known:
    """A row for one socket, in GB/s, cores and MiB of its whole L3 cache."""
    return Known(
        key,
        name,
        pattern,
        "cpu",
        Figure(bandwidth * _GB, source),
        None,
        Figure(cores, source),
        Figure(cache * _MIB, source),
        None,
    )


KNOWN: tuple[Known, ...] = (
    _gpu(
        *("a100-80gb", "NVIDIA A100 80GB SXM", r"A100-SXM4-80GB|A100 80GB(?! PCIe)"),
        *((2039, _A100), (80, _A100), (108, _AMPERE), (40, _AMPERE)),
    ),
    _gpu(
        *("a100-40gb", "NVIDIA A100 40GB", r"A100.*40GB"),
        *((1555, _AMPERE), (40, _AMPERE), (108, _AMPERE), (40, _AMPERE)),
    ),
    _gpu(
        *("h100-sxm", "NVIDIA H100 SXM", r"H100 80GB HBM3"),
        *((3350, _H100), (80, _H100), (132, _HOPPER), (50, _HOPPER)),
    ),
    _gpu(
        *("h100-pcie", "NVIDIA H100 PCIe", r"H100 PCIe"),
        *((2000, _HOPPER), (80, _HOPPER), (114, _HOPPER), (50, _HOPPER)),
    ),
    _gpu(
        *("h200", "NVIDIA H200", r"\bH200\b"),
        *((4800, _H200), (141, _H200), (132, _H200_SM), (60, _H200_L2)),
    ),
    _gpu(
        *("l4", "NVIDIA L4", r"\bL4$"),
        *((300, _L4), (24, _L4), (58, _L4_DEVICE), (48, _L4_DEVICE)),
    ),
    _gpu(
        *("l40s", "NVIDIA L40S", r"\bL40S\b"),
        *((864, _L40S), (48, _L40S), (142, _L40S_DEVICE), (96, _L40S_DEVICE)),
    ),
    _gpu(
        *("rtx-4090", "NVIDIA GeForce RTX 4090", r"RTX 4090$"),
        *((1008, _ADA), (24, _ADA), (128, _ADA), (72, _ADA)),
    ),
    _gpu(
        *("rtx-3090", "NVIDIA GeForce RTX 3090", r"RTX 3090$"),
        *((936, _GA102), (24, _GA102), (82, _GA102), (6, _GA102)),
    ),
    _gpu(
        *("rtx-a6000", "NVIDIA RTX A6000", r"RTX A6000$"),
        *((768, _GA102), (48, _GA102), (84, _GA102), (6, _GA102)),
    ),
    _gpu(
        *("mi300x", "AMD Instinct MI300X", r"MI300X"),
        *((5300, _MI300X), (192, _MI300X), (304, _ROCM), (256, _ROCM)),
        overhead=None,
    ),
    _apple("M1", 68.3, 16, 8, _M1),
    _apple("M1 Pro", 200, 32, 10, _M1_PRO),
    _apple("M1 Max", 400, 64, 10, _M1_PRO),
    _apple("M2", 100, 24, 8, _M2),
    _apple("M2 Pro", 200, 32, 12, _M2_PRO),
    _apple("M2 Max", 400, 96, 12, _M2_PRO),
    _apple("M3", 100, 24, 8, _M3),
    _apple("M3 Pro", 150, 36, 12, _M3),
    _apple("M3 Max", 400, 128, 16, _M3),
    _apple("M4", 120, 32, 10, _M4),
    _apple("M4 Pro", 273, 64, 14, _M4),
    _apple("M4 Max", 546, 128, 16, _M4),
    _server("epyc-9654", "AMD EPYC 9654 (Zen 4)", r"EPYC 9654P?\b", 460.8, 96, 384, _GENOA),
    _server("epyc-9755", "AMD EPYC 9755 (Zen 5)", r"EPYC 9755\b", 614.4, 128, 512, _TURIN),
    _server(
        "xeon-8480", "Intel Xeon Platinum 8480+", r"Platinum 8480\+", 307.2, 56, 105, _SAPPHIRE
    ),
)


def is_known(name: str) -> bool:
    """Whether some accelerator has this key, or a key that begins with it."""
    return bool(_rows(name))


def known(name: str) -> tuple[Known, ...]:
    """The accelerator with this key, or else all of the family: ``h100`` is SXM and PCIe.

    Raises:
        SparsityError: there is none.
    """
    if rows := _rows(name):
        return rows
    raise SparsityError(f"{name!r} is none of the known targets {', '.join(r.key for r in KNOWN)}")


def _rows(name: str) -> tuple[Known, ...]:
    exact = tuple(row for row in KNOWN if row.key == name)
    return exact or tuple(row for row in KNOWN if row.key.startswith(f"{name}-"))
