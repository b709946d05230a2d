"""What PTX says about a kernel: its loads, how wide and from which argument, and its products.

PTX is what Triton and nvcc hand to the assembler (Parallel Thread Execution ISA, sections 9.7.9.8
``ld`` and 9.7.9.25 ``cp.async``).  Text is enough: registers are written once or on the edges of
a loop, and addresses are sums that begin at a parameter.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

#: Stands for loads whose address could not be traced to an argument.
UNKNOWN = "?"

_LOAD = re.compile(r"\bld\.global((?:\.[\w:]+)*)\s+(?:\{[^}]*\}|%\w+)\s*,\s*\[\s*(%\w+)[^\]]*\]")
_ASYNC_COPY = re.compile(
    r"\bcp\.async\.c[ag]\.shared\.global[\w.:]*\s+\[[^\]]*\]\s*,\s*\[\s*(%\w+)[^\]]*\]\s*,\s*(\w+)"
)
_TF32 = re.compile(r"\b(?:mma|wgmma|tcgen05)\.[\w.:]*\btf32\b")
#: Tensor memory access: whole tiles, by a descriptor.
_BULK_COPY = re.compile(r"\bcp\.async\.bulk\.tensor\.\dd\.shared::\w+\.global\b")
_VECTOR = re.compile(r"\.v(\d)")
_ELEMENT = re.compile(r"\.[bsuf](\d+)$")
_PARAMETER = re.compile(r"\bld\.param\.\w+\s+(%\w+)\s*,\s*\[\s*\w+_param_(\d+)\s*\]")
_ASSIGNMENT = re.compile(r"^\s*(?:@!?%\w+\s+)?[a-z][\w.:]*\s+(%rd\d+)\s*,([^;]*);", re.MULTILINE)
_ADDRESS = re.compile(r"%rd\d+")


def loads(ptx: str, pointers: Sequence[str | None] | None) -> Mapping[str, Counter[int]]:
    """How many loads from global memory there are, by argument and by width in bits.

    Asynchronous copies to shared memory count as loads of their size, those of tiles (TMA) as loads
    of 128 bits.

    Args:
        ptx: of a module with one kernel.
        pointers: of each parameter of the kernel, in order, the name of what it points to, None
            if it is a number; more may follow, which are Triton's own.  None if it is not known
            which is which: all loads are ``UNKNOWN``.
    """
    origins = _origins(ptx, pointers) if pointers is not None else {}
    found: dict[str, Counter[int]] = {}
    for modifiers, address in _LOAD.findall(ptx):
        vector, element = _VECTOR.search(modifiers), _ELEMENT.search(modifiers)
        if element is not None:
            bits = int(element[1]) * (int(vector[1]) if vector else 1)
            _count(found, origins.get(address, frozenset()), bits)
    for address, size in _ASYNC_COPY.findall(ptx):
        _count(found, origins.get(address, frozenset()), 8 * int(size, 0))
    for _ in _BULK_COPY.findall(ptx):
        _count(found, frozenset(), 128)
    return found


def multiplies_tf32(ptx: str) -> bool:
    """Whether tensor cores multiply in TF32, in which float32 operands lose 13 bits."""
    return _TF32.search(ptx) is not None


def _count(found: dict[str, Counter[int]], names: frozenset[str], bits: int) -> None:
    # An address that comes from several arguments, by a select, counts for each.
    for name in names or {UNKNOWN}:
        found.setdefault(name, Counter())[bits] += 1


def _origins(ptx: str, pointers: Sequence[str | None]) -> Mapping[str, frozenset[str]]:
    """Into what each 64-bit register points."""
    origins: dict[str, frozenset[str]] = {}
    for register, number in _PARAMETER.findall(ptx):
        name = pointers[int(number)] if int(number) < len(pointers) else None
        if name is not None:
            origins[register] = frozenset({name})
    steps = [
        (target, _ADDRESS.findall(sources))
        for target, sources in _ASSIGNMENT.findall(ptx)
        if target not in origins
    ]
    changed = True
    while changed:
        changed = False
        for target, sources in steps:
            before = origins.get(target, frozenset())
            after = before.union(*(origins.get(source, frozenset()) for source in sources))
            if after != before:
                origins[target] = after
                changed = True
    return origins
