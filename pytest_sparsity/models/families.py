"""Which architectures of transformers work, and what on each: as the tests measured it.

``families.json`` is written by ``python tests/families/table.py``, from shrunk twins of all
architectures, and a test holds it against what it measures.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("families.json")
MAPPED, REFUSED, LEFT_OUT = "mapped", "refused", "left out"


@dataclass(frozen=True)
class Family:
    """What was found out about one architecture.

    Attributes:
        type: transformers' ``model_type``.
        name: of its class.
        status: ``MAPPED``, ``REFUSED``, or ``LEFT_OUT`` where it is no decoder-only model that
            transformers can build in small.
        reason: why it is not mapped, in one sentence; empty where it is.
        kinds: of its sites.
        experts: whether some sites are experts'.
        exempt: fraction of the blocks' weights that are multiplied where no site is.
        spon: fraction of the sites that can have a spontaneous vector.
        neurons: whether neurons of its MLPs can be skipped.
        kernels: fraction of the sites whose decoding steps a kernel can compute.
        cached: whether transformers itself gives the same greedy text with and without a cache.
        faults: what was promised and does not hold.
    """

    type: str
    name: str
    status: str
    reason: str = ""
    kinds: tuple[str, ...] = ()
    experts: bool = False
    exempt: float = 0.0
    spon: float = 0.0
    neurons: bool = False
    kernels: float = 0.0
    cached: bool = True
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class Families:
    """All of them.

    Attributes:
        transformers: the version that they were measured with.
        all: by type.
    """

    transformers: str
    all: tuple[Family, ...]

    def of(self, status: str) -> tuple[Family, ...]:
        """Those of one status."""
        return tuple(family for family in self.all if family.status == status)

    @property
    def summary(self) -> str:
        """How many there are of each, in a sentence."""
        mapped, refused, left_out = map(self.of, (MAPPED, REFUSED, LEFT_OUT))
        return (
            f"Of the {len(mapped) + len(refused)} decoder-only architectures of transformers "
            f"{self.transformers}, {len(mapped)} are mapped and {len(refused)} are refused in a "
            f"sentence; {len(left_out)} more in its table of causal models are no such models."
        )


def read_families(file: Path = FILE) -> Families:
    """What the package ships."""
    read = json.loads(file.read_text(encoding="utf-8"))
    found = [
        Family(**{**row, "kinds": tuple(row["kinds"]), "faults": tuple(row["faults"])})
        for row in read["families"]
    ]
    return Families(read["transformers"], tuple(found))
